"""Text, settings, media and programs: what each is taken for."""

from __future__ import annotations

import json
import time

import hypothesis
import pytest
import yaml
from corpus.messages import written
from hypothesis import given
from hypothesis import strategies as st

from hauberk.scan import scan_paths
from hauberk.scan.content import BytesContent
from hauberk.scan.examination import Examination
from hauberk.scan.frameworks import documents, json_text
from hauberk.scan.inert import text
from hauberk.trust.encryption import seal
from hauberk.trust.keys import EncryptionKey


def scanned(data, folder, name="x"):
    (result,) = scan_paths([written(folder / name, data)])
    return result.format, result.verdict


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("plain words", ("text", "safe")),
        ("größer als 3 µs", ("text", "safe")),
        ("größer".encode("latin-1"), ("", "unknown")),
        (b"\x00\x01\x02\x03" * 9, ("", "unknown")),
        ("a" * (1 << 20) + "ß" + "b" * 99, ("text", "safe")),  # a letter on the border of two blocks
        (b"a" * ((1 << 20) - 1) + "ß".encode() + b"b", ("text", "safe")),
        (b"a" * (1 << 20) + b"\x00", ("onnx", "unknown")),  # to readers of protobuf, 116,508 numbers
        (b"\xff\xfe\x00", ("", "unknown")),
        ("{}", ("json", "safe")),
        (' \n {"a": [1, 2.5, null, "x"]} \n', ("json", "safe")),
        (b'\xef\xbb\xbf{"a": 1}', ("json", "safe")),
        ('{"a": 1} trailing', ("json", "unknown")),
        ('{"a": 1, "a": 2}', ("json", "unsafe")),
        ('{"a": ' + "[" * 5000, ("json", "unknown")),
        (" " * 5000 + '{"a": 1, "a": 2}', ("json", "unsafe")),
        ("{" + " " * 5000 + '"a": 1}', ("json", "safe")),
        ("{" + " " * 90, ("text", "safe")),
        ("[section]\nkey = 1\n", ("text", "safe")),
        ("import torch\n", ("text", "unknown")),
        ("The class of models that import nothing.\n", ("text", "safe")),
        ("from the start\nclass action\n", ("text", "safe")),
        ("def f(x):\n    return x\n", ("text", "unknown")),
        ("```\nimport torch\n```\n", ("text", "safe")),
        ("```\nx\n```\nimport torch\n", ("text", "unknown")),
        ("#!/usr/bin/env python3\n", ("text", "unknown")),
    ],
)
def test_kinds(data, expected, tmp_path):
    assert scanned(data, tmp_path) == expected


@pytest.mark.parametrize(
    "document",
    [
        "!!python/object/apply:os.getcwd []",
        "!!python/object/new:os.getcwd []",
        "!!python/name:os.getcwd",
        "!!python/module:os",
        "!<tag:yaml.org,2002:python/name:os.getcwd> ''",
        "%TAG !x! tag:yaml.org,2002:python/\n---\n!x!name:os.getcwd ''",
        "%TAG !x! tag:yaml.org,2002:pyth\n---\n!x!on/name:os.getcwd ''",
        "%TAG !x! tag:%79aml.org,2002:python/\n---\n!x!name:os.getcwd ''",
        "!!pyth%6fn/name:os.getcwd ''",
        "!<tag:yaml.org,2002:pyth%6Fn/name:os.getcwd> ''",
        "[a,!!p%79thon/object/apply:os.getcwd []]",
        "a: {\"b\":!!pyth%6fn/name:os.getcwd ''}",
        "{?!!pyth%6fn/name:os.getcwd '' : 1}",
        "a: !r%75by/object:Gem::Installer {}",
    ],
)
def test_yaml_that_the_safe_loader_refuses_is_unsafe(document, tmp_path):
    with pytest.raises(yaml.YAMLError):
        yaml.safe_load(document)
    assert scanned(document, tmp_path)[1] == "unsafe"


@pytest.mark.parametrize("target", ["os.system", "builtins.eval", "subprocess.Popen", "torch.load", "posix.system"])
@pytest.mark.parametrize("form", ["json", "yaml", "quoted"])
def test_targets_that_no_model_needs(target, form, tmp_path):
    data = {
        "json": json.dumps({"a": [{"_target_": target}]}),
        "yaml": f"a:\n  - _target_: {target}\n",
        "quoted": f"a:\n  \"_target_\": '{target}'\n",
    }[form]
    assert scanned(data, tmp_path)[1] == "unsafe"


def test_a_target_cut_by_the_border_of_two_blocks_is_found(tmp_path):
    line = "_target_: os.system\n"
    for shift in (0, 9):
        padding = "# " + "x" * ((1 << 20) - shift - 3) + "\n"
        assert scanned(padding + line, tmp_path)[1] == "unsafe"


def test_json_beyond_the_limit_is_unknown(tmp_path, monkeypatch):
    monkeypatch.setattr(json_text, "LARGEST", 100)
    assert scanned(json.dumps(["x"] * 100), tmp_path) == ("json", "unknown")


@pytest.mark.parametrize(
    ("start", "kind"),
    [
        (b"\x89PNG\r\n\x1a\n", "image"),
        (b"GIF89a", "image"),
        (b"%PDF-1.7", "pdf"),
        (b"fLaC", "audio"),
        (b"PAR1", "parquet"),
    ],
)
def test_media_by_their_first_bytes(start, kind, tmp_path):
    assert scanned(start + bytes(range(1, 60)), tmp_path)[0] == kind


def test_a_picture_with_something_behind_it_is_not_safe(tmp_path):
    end = b"IEND\xaeB`\x82"
    assert scanned(b"\x89PNG\r\n\x1a\n" + bytes(30) + end, tmp_path) == ("image", "safe")
    assert scanned(b"\x89PNG\r\n\x1a\n" + bytes(30) + end + b"more", tmp_path)[1] != "safe"


def test_json_of_very_many_lists_is_not_parsed(tmp_path):
    assert scanned('{"a": [' + "[]," * (1 << 21) + "[]]}", tmp_path) == ("json", "unknown")


def test_paths_into_deep_json_stay_short():
    value = leaf = {}
    for _ in range(400):
        leaf["a" * 50] = leaf = {}
    assert max(len(place) for place, _ in json_text.nodes(value, Examination())) < 1000


def test_half_a_program_header_is_no_program(tmp_path):
    assert (
        scanned(b"MZ are my initials, and this is a letter that is longer than a header of old.", tmp_path)[0] == "text"
    )
    assert scanned(b"\x7fELF", tmp_path)[1] == "unsafe"


@pytest.mark.parametrize(
    "unit",
    [
        *(
            "!",
            "!!",
            ":!",
            "!%20",
            "!%20 ",
            "!!python/a ",
            "%TAG !",
            "%TAG",
            "_target_",
            "_target_ :",
            "!new:",
            "loader_module ",
        ),
        *(
            "\\x",
            "\\\n",
            "eval(",
            "import a.",
            "@a",
            "```\n",
            "```x\n",
            "~~~x\n",
            "{%for",
            "{% for ",
            "{#",
            "{{",
            "{% set {#",
        ),
        *(
            "node{",
            "node:",
            "node {op: ",
            "graph_def",
            "graph_def:",
            "saved_model_schema_version",
            "<a:PMML",
            "<a",
            "<net",
        ),
        *(
            "<!DOCTYPE ",
            "<!DOCTYPE SYSTEM",
            "<!ENTITY",
            "<script",
            "<a <img ",
            "<img onload",
            "<img <a> onload=",
            "<a =' onabc=> ",
        ),
        *(
            "<a> online= ",
            "split_feature=",
            "left_child= ",
            "svm_type a",
            "solver_type",
            "layer<",
            "layer {",
            "layer:bottom:",
        ),
        *(
            "python_param:",
            "func.func",
            "func.func@a",
            "builtin.module @a",
            "builtin.module@",
            "@a(",
            "7767517",
            "\n",
            "A\n3\n",
        ),
    ],
)
@pytest.mark.parametrize("space", ["", " "])
def test_texts_made_to_be_slow_are_not(unit, space):
    words = "<img _target_ node SYSTEM op: 'x' num_leaves=1 func.func builtin.module layer {% for %}"
    size = 1 << 18
    for data in (
        unit * (size // len(unit)),
        unit + space * size + words,
        words + "\n" + (unit + space * 999) * (size // 1000),
    ):
        examination = Examination()
        started = time.process_time()
        text.examine(BytesContent(data.encode()), examination)
        assert time.process_time() - started < 1, data[:60]
        assert not {"scan-out-of-time"} & {finding.rule for finding in examination.findings}


SETTINGS = (
    {"auto_map": {"AutoModel": "modeling.Model"}},
    {"custom_pipelines": ["a"]},
    {"custom_pipeline": "a"},
    {"attn_implementation": "someone/kernel"},
    {"_attn_implementation_internal": "someone/kernel"},
    {"parent_library": "mylib.models"},
    {"idx": 0, "name": "0", "path": "", "type": "mylib.Layer"},
    {"py/object": "os.system"},
    {"_target_": "os.system"},
    {"_diffusers_version": "0.1", "part": ["mylib", "Part"]},
    {"run": "$import os"},
    {"imports": [], "run": "$os.getcwd()"},
    {"text": "{{ x.__class__.__mro__ }}"},
    {"text": "{%- set a = ''.__class__ %}"},
    {"class_name": "Lambda", "config": {}},
)


@st.composite
def written_otherwise(draw, text):
    """JSON whose texts have some letters as escapes, in an encoding."""
    by_number = draw(st.integers(0, 2))  # of ten letters; one way alone must be seen, too
    escaped = []
    inside = False
    for letter in text:
        inside ^= letter == '"'
        number = inside and letter not in '"\\' and draw(st.integers(0, 9)) < by_number
        slash = "\\/" if letter == "/" and draw(st.booleans()) else letter
        escaped.append(f"\\u{ord(letter):04x}" if number else slash)
    encoding = draw(st.sampled_from(["utf-8", "utf-8", "utf-8-sig", "utf-16-le", "utf-16-be", "utf-32-le"]))
    return "".join(escaped).encode(encoding)


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda settings: next(iter(settings)))
@hypothesis.settings(max_examples=50)
@given(data=st.data())
def test_what_names_code_in_settings_is_seen_however_it_is_written(settings, data):
    """The quick look over the text passes over none that the look at the values would find something in."""
    text = json.dumps(data.draw(st.sampled_from([settings, {"a": [settings]}, [{"b": 1}, settings]])))
    examination = Examination()
    documents.JSON.examine(BytesContent(data.draw(written_otherwise(text))), examination)
    assert examination.verdict != "safe", text


@pytest.mark.parametrize("value", ["$" + " " * (1 << 18), "$" + "_" * (1 << 18), "$" + "os" * (1 << 17)])
def test_expressions_made_to_be_slow_are_not(value):
    started = time.process_time()
    documents.JSON.examine(BytesContent(json.dumps({"imports": [], "a": value}).encode()), Examination())
    assert time.process_time() - started < 1


def test_what_hauberk_encrypted_is_said_to_be_that(tmp_path):
    sealed = seal(b"weights" * 99, EncryptionKey.generate(), purpose=b"a test")
    (found,) = scan_paths([written(tmp_path / "model.enc", sealed)])
    assert (found.format, found.verdict, [finding.rule for finding in found.findings]) == (
        "hauberk-sealed",
        "unknown",
        ["sealed-data"],
    )
    assert "hauberk verify" in found.findings[0].why


@pytest.mark.parametrize(("encoding", "rules"), [("utf-8", {"template-too-large"}), ("utf-16", set())])
def test_what_is_too_large_for_a_template_is_counted_as_it_is_read(encoding, rules):
    """In UTF-16 twice as many bytes are as many letters."""
    data = ("a\n" * ((17 << 19) if encoding == "utf-8" else (9 << 19)) + "{{ x").encode(encoding)
    assert len(data) > 16 << 20
    examination = Examination()
    text.examine(BytesContent(data), examination)
    assert {finding.rule for finding in examination.findings} == rules


@given(
    before=st.lists(st.sampled_from(["\\", "_target_x", "target_", "x5f", "\n", '"', "# ", " "])).map("".join),
    at=st.integers(0, 7),
    way=st.sampled_from(
        ["\\x{:02x}", "\\u{:04X}", "\\U{:08x}", "\\\n", "\\\r\n  ", "\\\x85", "\\\u2028\t", "\\\u2029"]
    ),
)
def test_a_key_with_a_letter_as_an_escape_is_seen_behind_any_text(before, at, way):
    key = "_target_"
    written_so = key[:at] + (way.format(ord(key[at])) + key[at + 1 :] if "{" in way else way + key[at:])
    entry = f'? "{written_so}"\n: os.system\n'
    assert yaml.safe_load(entry) == {key: "os.system"}
    examination = Examination()
    text.examine(BytesContent(f"{before}\n{entry}".encode()), examination)
    assert examination.verdict != "safe"
