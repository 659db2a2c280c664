"""Archives, checkpoints and weights for the scan to refuse."""

from corpus import hostile_safetensors, hostile_tars, hostile_torch, hostile_zips

CASES = (*hostile_zips.CASES, *hostile_torch.CASES, *hostile_tars.CASES, *hostile_safetensors.CASES)
