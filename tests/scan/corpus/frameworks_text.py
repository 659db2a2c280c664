"""Models as text, and settings by which loaders of models import, call or download something."""

from __future__ import annotations

import io
import json
import pickle
import tarfile

from corpus import UNKNOWN, UNSAFE, Case
from corpus.frameworks_files import file, settings
from corpus.messages import FIXTURES

GRAPH = '{ graph_def { node { name: "a" op: "WriteFile" } } }\n'
KERNELS = "https://huggingface.co/docs/transformers/attention_interface"
JINJA = "https://nvd.nist.gov/vuln/detail/CVE-2024-34359"
HYPER = "https://github.com/speechbrain/HyperPyYAML"

_INWARD = "{{x.__class__}}"


def _tar(before: str = "") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo(f"{before}{_INWARD}.txt"))
    return buffer.getvalue()


def _tensors() -> bytes:
    tensor = {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}
    header = json.dumps({"__metadata__": {"a": _INWARD}, "w": tensor}, separators=(",", ":")).ljust(112).encode()
    return len(header).to_bytes(8, "little") + header + b"a"


_OTHERS = (
    ("a-pickle", pickle.dumps([_INWARD], 0)),
    ("an-archive", _tar()),
    ("an-archive-beyond-ascii", _tar("é")),
    ("tensors", _tensors()),
    ("a-pickle-and-yaml", b'Va: !!python/object/apply:builtins.eval ["1"]\nM: .'),
    ("trees", (FIXTURES / "lightgbm_linear.txt").read_bytes().replace(b"Column_0", _INWARD.encode(), 1)),
)
"""Models that are text all through, which whoever looks for a template by its name takes for one."""

_MODELS = (
    ("graph-behind-comment", f"# a model\n\n  saved_model_schema_version : 1\nmeta_graphs  {GRAPH}"),
    ("graph-in-angles", "meta_graphs <\n  graph_def < >\n>\n"),
    ("graph-with-colon", f"meta_graphs : # {'x' * 9000}\n{GRAPH}"),
    ("graph-far", "# filler\n" * 200_000 + f"meta_graphs{GRAPH}"),
    ("frozen-graph", 'node {\n  name: "a"\n  op: "ReadFile"\n}\n'),
    ("trees-with-returns", "tree\rversion=v4\rnum_class=1\rTree=0\rnum_leaves=4\rsplit_feature=0 1 0\r"),
    ("trees-in-fence", "```\ntree\nTree=0\nnum_leaves=4\nsplit_feature=0 1 0\n```\n"),
    ("caffe-with-comment", 'layer # a\n{\n  type: "Data" top: "x" }\n'),
    ("graph-with-comment", 'node # a\n{\n  op: "ReadFile" }\n'),
    ("mlir-generic", '"builtin.module"() ({\n  "func.func"() ({}) : () -> ()\n}) : () -> ()\n'),
    ("r-old", "A\n3\n1\n1\n5\nUTF-8\n238\n"),
    ("picture-behind-sign", "<svg><image alt='>' onload='f()'/></svg>\n"),
    ("picture-in-fence", "<html><!--\n```\n--><img src=x onError='f()'><!--\n```\n--></html>\n"),
    ("vectors-indented", "  svm_type c_svc\n kernel_type linear\n"),
    ("caffe-on-a-line", 'name: "x" layer { type: "Python" python_param { module: "x" layer: "y" } }'),
    ("caffe-with-colon", 'layer: {\n  type: "Python" python_param: { module: "x" } }\n'),
    ("ncnn", "7767517\n2 2\nInput data 0 1 data\n"),
    ("mlir", "module {\n  func.func @main() { return }\n}\n"),
    ("r", "A\n3\n262144\n197888\n5\nUTF-8\n238\n"),
    ("r-workspace", "RDA3\nA\n3\n262144\n"),
    ("pmml-far", '<?xml version="1.0"?>\n<!-- ' + "x" * 9000 + ' -->\n<PMML version="4.4"/>\n'),
    ("pmml-prefixed", '<p:PMML xmlns:p="http://www.dmg.org/PMML-4_4" version="4.4"/>\n'),
    ("openvino", '<?xml version="1.0"?>\n<net\n  name="a>b" version="11"></net>\n'),
    ("entity", '<?xml version="1.0"?>\n<!DOCTYPE a [<!ENTITY x SYSTEM "file:///srv/x">]>\n<a>&x;</a>\n'),
    ("script-in-mixed-letters", "<html><body><sCRIPT>alert(1)</sCRIPT></body></html>\n"),
    ("picture-in-large-letters", "<SVG XMLNS='http://www.w3.org/2000/svg' ONLOAD='f()'></SVG>\n"),
    ("page-in-mixed-letters", "<Body OnLoad='f()'></Body>\n"),
    ("picture-with-script", "<svg xmlns='http://www.w3.org/2000/svg' onload='f()'/>\n"),
)
_NAMES = (
    ("kernels", {"model_type": "llama", "attn_implementation": "somebody/kernels"}, KERNELS),
    ("modules", [{"idx": 0, "name": "0", "path": "", "type": "os.system"}], ""),
    ("adapter", {"auto_mapping": {"base_model_class": "X", "parent_library": "os"}}, ""),
    ("expression", {"network": "$__import__('os').getcwd()"}, "https://docs.monai.io/en/stable/config_syntax.html"),
    ("expression-import", {"imports": {"a": "$import os"}}, "https://docs.monai.io/en/stable/config_syntax.html"),
    ("expression-call", {"imports": [], "a": "$open('x')"}, "https://docs.monai.io/en/stable/config_syntax.html"),
    ("portable-union", {"input": ["null", "int"], "output": {"type": "array"}, "action": ["input"]}, ""),
    ("browser-graph", {"format": "graph-model", "modelTopology": {"node": []}}, ""),
    ("portable-program", {"input": "double", "output": "double", "action": [{"+": ["input", 1]}]}, ""),
)
_INWARD = "{{ x.__class__.__mro__ }}"
_COMPUTED = "{{ x[a~'cl'+b] }}"
_SLICED = "set k = 'x_x'[1::2] %}{{ ''[k] }}"
_PARTS = (  # what Jinja refuses as a whole, and takes in parts
    ("open-comment", f'# {{#\nchat_template: "{_INWARD}"\n', UNSAFE),
    ("sign", f"{{{{ ? }}}}\n{_INWARD}\n", UNSAFE),
    ("bracket", f"{{{{ a) }}}}\n{_INWARD}\n", UNSAFE),
    ("prose", f"{{{{ see this }}}}{_COMPUTED}", UNKNOWN),
    ("sign-computed", f"{{{{ ? }}}}{_COMPUTED}", UNKNOWN),
    ("sign-statement", "{{ ? }}{% if x[a~'cl'+b]: %}", UNKNOWN),
    ("sign-mapped", "{{ ? }}{{ x | map(attribute=a ~ b) }}", UNKNOWN),
    ("sign-filter", "{{ ? }}{{ x | attr(a) }}", UNSAFE),
    ("sign-rounds", "{{ ? }}{% for a in range(10 ** 9) %}{% endfor %}", UNKNOWN),
    ("sign-many-brackets", "{{ ? }}{{ " + "(" * 99 + "x[a~'cl'+b]" + ")" * 99 + " }}", UNKNOWN),
    ("sign-too-many", "{{ ? }}" + "{{ (" * 2000 + _COMPUTED, UNKNOWN),
    ("quoted-twice", 'a: "{{ x[\\"a\\" ~ \\"b\\"] }}"\n', UNKNOWN),
    ("quoted-marks", "a: \"\\x7b\\u007b x['a' ~ 'b'] }}\"\n", UNKNOWN),
    ("quoted-line", "a: \"{\\\n  { x['a' ~ 'b'] }}\"\n", UNKNOWN),
    ("quoted-name", "a: \"{{ x['\\\\x67i_frame'] }}\"\n", UNSAFE),
    ("quoted-once", "# {{ ? }}\na: '{{ x[''a'' ~ ''b''] }}'\n", UNKNOWN),
    ("hidden-by-comments", f"# {{#\nchat_template: '{_INWARD}'\n# #}}\n", UNSAFE),
    ("hidden-as-raw", f"# {{% raw %}}\nchat_template: '{_INWARD}'\n# {{% endraw %}}\n", UNSAFE),
    ("bound-elsewhere", "# {% set a = 1 %}\nb: '{{ x[a] }}'\n", UNKNOWN),
    ("bound-in-flow", "{# x\n# #}{% set a = 1 %}\n b: '{{ x[a] }}' }\n", UNKNOWN),
    ("before-open-comment", "{{ '%99999999d' % 5 }}{#", UNKNOWN),
    ("before-open-raw", "{{ '%99999999d' % 5 }}{% raw -%}\n", UNKNOWN),
    ("quoted-keyword", 'a: "{{ x | map(\\uff41ttribute=b) | list }}"\n', UNKNOWN),
    ("quoted-format", 'a: "{{ \\"{0._x}\\".format(x) }}"\n', UNKNOWN),
    ("sign-format", "{{ ? }}{{ ('{0.' ~ a ~ '}').format(x) }}", UNKNOWN),
    ("sign-groups", "{{ ? }}{{ [x] | map('groupby', a) }}", UNKNOWN),
    ("sign-groups-each", "{{ ? }}{{ [[x]] | map('map', 'groupby', a) }}", UNKNOWN),
    ("sign-groups-inward", "{{ ? }}{{ [x] | map('groupby', 'gi_frame') }}", UNSAFE),
    ("far-apart", "a" * ((1 << 20) - 4500) + "{%" + " " * 5000 + "set a = x.__class__ %}", UNSAFE),
    ("blank-of-no-width", f"{{%\u00a0{_SLICED}", UNKNOWN),
    ("blank-wide", f"{{%\u2003{_SLICED}", UNKNOWN),
    ("blank-of-ideographs", f"{{%\u3000{_SLICED}", UNKNOWN),
)
_DOCUMENTS = (  # JSON to one reader, a template to another
    ("texts", '["{{ [", ", x.__class__.__mro__, ", "] }}"]'),
    ("key", '{"{{ x.__class__ }}": 1}'),
    ("lines", '["{{ ["]\n[", x.__class__, "]\n["] }}"]\n'),
    ("raw", '["{% raw %}", "{# {% endraw %}{{ x.__class__ }} #}"]'),
)
_FAR = "# a\n" * (((1 << 20) - 4500) // 4)

TEXT_CASES = (
    *(Case(f"template-json-{name}", file("chat_template.jinja", text), UNSAFE, JINJA) for name, text in _DOCUMENTS),
    *(
        Case(f"yaml-tag-{name}", file("x.yaml", f"{_FAR}%TAG{between} tag:yaml.org,2002:\n--- {tag}\n"), UNSAFE)
        for name, between, tag in (
            ("far-apart", " " * 5000 + "!e!", "!e!python/name:os.system"),
            ("by-a-long-name", f" !{'e' * 5000}!", f"!{'e' * 5000}!python/name:os.system"),
        )
    ),
    *(Case(f"template-text-{name}", file("x.yaml", text), expected, JINJA) for name, text, expected in _PARTS),
    *(Case(f"template-that-is-{name}", file("chat_template.jinja", data), UNSAFE, JINJA) for name, data in _OTHERS),
    Case("template-text-large", file("x.txt", "a\n" * (9 << 20) + "{{ x"), UNKNOWN),
    *(Case(f"text-model-{name}", file("x.txt", text), UNKNOWN) for name, text in _MODELS),
    Case("text-model-wide", file("x.xml", '<PMML version="4.4"/>'.encode("utf-16")), UNKNOWN),
    *(Case(f"settings-{name}", settings(value), UNKNOWN, reference) for name, value, reference in _NAMES),
    Case("settings-hyper-new", file("hyperparams.yaml", "a: !new:os.system\n  - 'true'\n"), UNSAFE, HYPER),
    Case("settings-hyper-apply", file("hyperparams.yaml", "a: !apply:subprocess.run ['true']\n"), UNSAFE, HYPER),
    Case("settings-hyper-class", file("hyperparams.yaml", "a: !new:speechbrain.nnet.linear.Linear\n"), UNKNOWN, HYPER),
    Case("settings-flavor", file("MLmodel", "flavors:\n  python_function:\n    loader_module: os\n"), UNKNOWN),
    Case("source-python-by-tab", file("x.pth", "import\tos\n"), UNKNOWN),
)
