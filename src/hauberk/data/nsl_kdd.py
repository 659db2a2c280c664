"""NSL-KDD: network connections as 41 columns, normal or one of 39 attacks; read from the folder of `HAUBERK_DATA`."""

from __future__ import annotations

import os
from pathlib import Path

from hauberk.data.known import KnownDataSet, SourceFile
from hauberk.data.readers import parse_delimited
from hauberk.data.table import Table

_ONE_CONNECTION = (
    "duration", "protocol_type", "service", "flag", "src_bytes", "dst_bytes", "land", "wrong_fragment", "urgent",
    "hot", "num_failed_logins", "logged_in", "num_compromised", "root_shell", "su_attempted", "num_root",
    "num_file_creations", "num_shells", "num_access_files", "num_outbound_cmds", "is_host_login", "is_guest_login",
)  # fmt: skip

_OVER_OTHER_CONNECTIONS = (
    "count", "srv_count", "serror_rate", "srv_serror_rate", "rerror_rate", "srv_rerror_rate", "same_srv_rate",
    "diff_srv_rate", "srv_diff_host_rate", "dst_host_count", "dst_host_srv_count", "dst_host_same_srv_rate",
    "dst_host_diff_srv_rate", "dst_host_same_src_port_rate", "dst_host_srv_diff_host_rate", "dst_host_serror_rate",
    "dst_host_srv_serror_rate", "dst_host_rerror_rate", "dst_host_srv_rerror_rate",
)  # fmt: skip

# What a connection is, rather than how much of something is in it: changing it makes it another attack.
_IDENTITY = frozenset({
    "protocol_type", "service", "flag", "land", "logged_in", "root_shell", "su_attempted", "is_host_login",
    "is_guest_login",
})  # fmt: skip

# `su_attempted` is documented as a truth value and holds a 2 in the published files: it stays an integer.
_BOOLEANS = frozenset({"land", "logged_in", "root_shell", "is_host_login", "is_guest_login"})

_CLASSES = (
    "apache2", "back", "buffer_overflow", "ftp_write", "guess_passwd", "httptunnel", "imap", "ipsweep", "land",
    "loadmodule", "mailbomb", "mscan", "multihop", "named", "neptune", "nmap", "normal", "perl", "phf", "pod",
    "portsweep", "processtable", "ps", "rootkit", "saint", "satan", "sendmail", "smurf", "snmpgetattack", "snmpguess",
    "spy", "sqlattack", "teardrop", "udpstorm", "warezclient", "warezmaster", "worm", "xlock", "xsnoop", "xterm",
)  # fmt: skip


def _folder() -> Path | None:
    root = os.environ.get("HAUBERK_DATA")
    return Path(root) / "nsl-kdd" if root else None


def _parse(content: bytes, where: str) -> Table:
    columns = (*_ONE_CONNECTION, *_OVER_OTHER_CONNECTIONS, "label", "difficulty")
    # How many of 21 classifiers got a record right says how hard it is: it would give answers away.
    return parse_delimited(content, where, columns=columns).without({"difficulty"})


def _mutable(column: str) -> bool:
    return column in _ONE_CONNECTION and column not in _IDENTITY


NSL_KDD = KnownDataSet(
    name="nsl-kdd",
    title="network connections described by 41 columns: normal or one of 39 attacks, 18 of them only in the test file",
    publisher="Canadian Institute for Cybersecurity, University of New Brunswick (https://www.unb.ca/cic/datasets/nsl.html)",
    citation=(
        "Tavallaee, M., Bagheri, E., Lu, W., and Ghorbani, A. (2009). A Detailed Analysis of the KDD CUP 99 Data Set. "
        "IEEE Symposium on Computational Intelligence for Security and Defense Applications (CISDA)."
    ),
    licence="the publisher's own terms; not distributed with Hauberk",
    files=(
        SourceFile(
            "KDDTrain+_20Percent.txt", "7ea86479faab5ca2190b7f18b4982fb058ce5bf2b46e0e1017d0d9ef90f9c16e", 25192
        ),
        SourceFile("KDDTest+.txt", "fa46b0935342616aa83b7c2578db355b6a7aaabbc492248172c7a1e8b7ab8f84", 22544),
    ),
    folder=_folder,
    parse=_parse,
    label="label",
    benign="normal",
    classes=_CLASSES,
    mutable=_mutable,
    booleans=_BOOLEANS,
    adversary=(
        "The sender shapes one connection: its length, its bytes and what is counted inside it; not its kind, and not "
        "what the sensor counts over other connections."
    ),
    has_test_file=True,
)
"""NSL-KDD: the 20 % training file, and Test+ as the test split."""
