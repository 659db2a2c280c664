"""Evidence that travels with a detector: in-toto statements and a bill of materials."""

from hauberk.protect.attest import (
    FULL_PREDICATE,
    PUBLIC_PREDICATE,
    DataSource,
    FullPredicate,
    PublicPredicate,
    full_statement,
    public_statement,
    require_chain,
    require_contracts,
)
from hauberk.protect.bill import bill_of_materials

__all__ = [
    "FULL_PREDICATE",
    "PUBLIC_PREDICATE",
    "DataSource",
    "FullPredicate",
    "PublicPredicate",
    "bill_of_materials",
    "full_statement",
    "public_statement",
    "require_chain",
    "require_contracts",
]
