"""The list of libraries against the package metadata of this very environment."""

from __future__ import annotations

from importlib import metadata

from packageurl import PackageURL

from hauberk.protect.libraries import installed_libraries

FIELD = {"numpy", "onnxruntime", "cryptography", "msgspec"}
WORKSHOP = {"torch", "onnx", "onnx-ir", "onnxscript", "safetensors"}


def test_what_runs_and_what_only_makes_are_told_apart():
    runtime = {library.name: library.runtime for library in installed_libraries()}
    assert all(runtime[name] for name in FIELD)
    assert not any(runtime[name] for name in WORKSHOP)


def test_requirements_of_requirements_are_followed():
    assert {"protobuf", "flatbuffers", "cffi"} <= {library.name for library in installed_libraries() if library.runtime}


def test_tools_of_the_test_suite_are_no_part():
    assert not {"pytest", "hypothesis", "mypy"} & {library.name for library in installed_libraries()}


def test_versions_are_those_installed():
    for library in installed_libraries():
        assert library.version == metadata.version(library.name)


def test_package_urls_are_well_formed():
    for library in installed_libraries():
        parsed = PackageURL.from_string(library.package_url)
        assert (parsed.type, parsed.name, parsed.version) == ("pypi", library.name, library.version)


def test_without_extras_only_the_field_floor_is_listed():
    assert all(library.runtime for library in installed_libraries(extras=()))
