"""A copy for sharing: nothing private is in it, and it reads with the very same figures."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gemma_trace import cli
from gemma_trace.analysis.breakdown import breakdown
from gemma_trace.export.redact import Redaction, redact
from gemma_trace.export.redacted_text import TextRedactor
from gemma_trace.trace.events import TEXT_COLUMNS
from gemma_trace.trace.secret_scan import scan_secrets
from gemma_trace.trace.secrets import find_secrets
from gemma_trace.trace.trace import Trace, load
from tests.conftest import SHARED, real_trace, thorough
from tests.trace_builder import TraceBuilder

# Made up, each of its kind's form; written in two parts, so that no scanner takes this file for a leak.
HUB = "hf" + "_AbCdEfGhIjKlMnOpQrStUv0123"
CLOUD = "AKIA" + "ABCDEFGHIJ234567"
NAMED = "0123456789abcdef0123456789abcdef01234567"
WORD = "correct-horse-7"


def private() -> TraceBuilder:
    built = TraceBuilder()
    built.header |= {
        "host_name": "gpu-box-17",
        "username": "alice.doe",
        "traceName": "/home/adoe/secret project/run.json",
        "environment": {"HOME": "/home/adoe", "HF_TOKEN": HUB},
        "notes": {"AWS_ID": CLOUD, "PATH": "/usr/bin", "SHELL": "/bin/zsh", "LANG": "C"},
        "command": f"python /home/adoe/train.py --key WANDB_API_KEY={NAMED}",
        "trace_id": "ABC",
    }
    built.raw(ph="M", name="process_name", pid=1, tid=0, args={"name": "python of adoe on gpu-box-17"})
    built.frame("/home/adoe/my code/transformers/models/x/image_processing_x.py(10): preprocess", 0, 400)
    built.frame("/opt/v/lib/python3.11/site-packages/torch/nn/modules/module.py(1): _call_impl", 10, 300)
    built.op("aten::mm", 20, 100, dims=[[2, 3], [3, 4]]).launch(1, 30)
    built.kernel("void gemm<a/b>(float*)", 200, 50, correlation=1)
    args = {"url": "https://bob:hunter22@internal.example.com/x", "from": "adoe@example.com", "ip": "10.1.2.3"}
    built.span("cpu_op", "my::op", 500, 10, note=args, password=WORD, **{f"token {HUB}": 1})
    return built.raw(ph="i", name="mark", pid=1, tid=1, ts=0.6, s="t", args={"env": {"API_KEY": NAMED}, "kept": "yes"})


SECRETS = (HUB, CLOUD, NAMED, WORD, "hunter22")
PRIVATE = (
    *SECRETS,
    "adoe",
    "alice",
    "gpu-box",
    "my code",
    "secret project",
    "10.1.2.3",
    "internal.example",
    "/home",
    "zsh",
)


def redacted(path: Path, folder: Path) -> tuple[str, Redaction]:
    done = redact(path, folder / "copy.json")
    return (folder / "copy.json").read_text(), done


def spelled(trace: Trace, column: str) -> Any:
    """A column, codes as what they stand for: their numbers depend on how the file was cut into batches."""
    values = getattr(trace.spans, column)
    tables = {"cat": trace.spans.cats, "track": [str(track) for track in trace.spans.tracks]}
    table = tables.get(column, trace.spans.texts if column in TEXT_COLUMNS else None)
    return values if table is None else np.array([*table, ""], dtype=object)[values]


def check_alike(before: Trace, after: Trace) -> None:
    """Every column but the names."""
    for column in fields(before.spans):
        if isinstance(getattr(before.spans, column.name), np.ndarray) and column.name != "name":
            own, other = (spelled(trace, column.name) for trace in (before, after))
            assert np.array_equal(own, other), column.name
    assert [len(part) for part in (before.flows, before.memory)] == [len(part) for part in (after.flows, after.memory)]
    assert breakdown(before).rows == breakdown(after).rows


def test_nothing_private_is_in_the_copy(tmp_path: Path) -> None:
    text, done = redacted(private().write(tmp_path / "private.json.gz"), tmp_path)
    assert [word for word in PRIVATE if word in text] == []
    assert done.removed["environment blocks"] == 3
    assert done.removed["secrets"] >= 4
    assert {"paths", "user names", "host names", "e-mail and network addresses"} <= set(done.removed)
    assert "image_processing_x.py(10): preprocess" in text
    assert '"torch/nn/modules/module.py(1): _call_impl"' in text
    assert '"kept":"yes"' in text.replace(" ", "")
    assert scan_secrets(tmp_path / "copy.json").counts == {}


def test_the_copy_has_the_same_figures(tmp_path: Path) -> None:
    path = private().write(tmp_path / "private.json")
    redact(path, tmp_path / "copy.json.gz")
    before, after = load(path), load(tmp_path / "copy.json.gz")
    check_alike(before, after)
    assert {row.stage: row.host_ns for row in breakdown(after).rows}["image_processing"] == 400


def test_check_names_the_kinds_and_shows_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = private().write(tmp_path / "private.json")
    for form in ("table", "markdown", "json", "csv"):
        assert cli.main(["check", str(path), "--format", form]) == 0
        out = capsys.readouterr().out
        assert "Hugging Face token" in out
        assert "AWS access key" in out
        assert [secret for secret in SECRETS if secret[:8] in out] == []


def test_the_command_says_what_it_took_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, target = private().write(tmp_path / "private.json"), tmp_path / "shared.json.gz"
    assert cli.main(["export", str(path), "--redact", "-o", str(target)]) == 0
    out, err = capsys.readouterr()
    assert out.strip() == str(target)
    assert "environment blocks 3 times" in err
    assert [secret for secret in SECRETS if secret in err] == []
    assert cli.main(["export", str(path), "--redact", "-o", str(target)]) != 0, "it isn't overwritten"
    assert "--force" in capsys.readouterr().err
    assert cli.main(["stages", str(target)]) == 0


def test_a_secret_across_two_chunks_and_one_in_escapes_are_found(tmp_path: Path) -> None:
    for at in (2**20 - 40, 2**20 - 5, 2**20 + 3):
        before = b'{"traceEvents": [{"ph": "X", "name": "'
        data = (
            before
            + b"a" * (at - len(before) - 1)
            + b" "
            + HUB.encode()
            + b'", "pid": 1, "tid": 1, "ts": 1, "dur": 1}]}'
        )
        (tmp_path / "long.json").write_bytes(data)
        assert scan_secrets(tmp_path / "long.json").counts == {"Hugging Face token": 1}
    (tmp_path / "escaped.json").write_text('["\\u0068f_' + HUB[3:] + '"]')
    assert scan_secrets(tmp_path / "escaped.json").counts == {"Hugging Face token": 1}
    text, _ = redacted(
        TraceBuilder().op("a", 0, 1).op("\\u0068f_" + HUB[3:], 5, 1).write(tmp_path / "e.json"), tmp_path
    )
    assert HUB[3:] not in text


@pytest.mark.parametrize(
    "text",
    [
        '"tokenizer": "google/gemma-3-4b-it", "pad_token": "<pad>", "max_new_tokens": 12345678901234567890',
        '"EOS_TOKEN": "abc0123456789abcdef", "token_type_ids": [0, 1], "HF_TOKEN": "", "API_KEY": "xxxxxxxxxxxxxxxxxx"',
        '"hf_xxxxxxxxxxxxxxxxxxxxxxxxxxxx", "sk-learn-pipeline-something-long", "triton_0123456789abcdef0123456789"',
        '"HF_TOKEN": "<redacted>", "password": "********", "SECRET_KEY": "your-secret-key-goes-here-1"',
        "sdpa_key_value_states_0123456789, key_padding_mask=0123456789abcdef_mask",
    ],
)
def test_what_is_no_secret_isnt_called_one(text: str) -> None:
    assert find_secrets(text) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/home/me/my proj/x y.py(3): f", "x y.py(3): f"),
        ("/home/me/a/x.py(3): f;/opt/lib/python3/site-packages/torch/y.py(4): g", "x.py(3): f;torch/y.py(4): g"),
        ("C:\\Users\\me\\a b\\c.py(3): f", "c.py(3): f"),
        ("\\\\server\\share\\x\\y.py", "y.py"),
        ("see /tmp/a/b.txt and ~/x/y", "see b.txt and y"),
        ("/device:GPU:0", "/device:GPU:0"),
        ("-I/home/me/inc/q.h -isystem/home/me/inc/r.h", "-Iq.h -isystemr.h"),
        ("gcc -I/home/me/inc/q.h -Wl,-rpath,/home/me/lib64", "gcc -Iq.h -Wl,-rpath,lib64"),
        ("/home/o'brien/x/y.py", "y.py"),
        ("open('/home/o'brien/x/y.py') or '/home/q/x.py'", "open('y.py') or 'x.py'"),
        ("on box-07.corp.internal, ip-10-0-3-7.ec2.internal", "on <host>, <host>"),
        ("torch.utils.internal and model.local", "torch.utils.internal and model.local"),
        ("torch/nn/modules/module.py(1751): _call_impl", "torch/nn/modules/module.py(1751): _call_impl"),
        ("void cutlass::gemm<a, b/c>(float)", "void cutlass::gemm<a, b/c>(float)"),
        ("nvidia-cublas-cu12==12.4.5.8 on 10.0.0.12", "nvidia-cublas-cu12==12.4.5.8 on <address>"),
        ("http://127.0.0.1:80/ and https://huggingface.co/x", "http://127.0.0.1:80/ and https://huggingface.co/x"),
    ],
)
def test_texts_without_what_is_private(text: str, expected: str) -> None:
    assert TextRedactor((), (), Counter()).text(text) == expected


def test_a_known_hosts_domain_goes_with_it_and_so_do_its_neighbours() -> None:
    redactor = TextRedactor((), ("box-a", "box-a.example.net"), Counter())
    assert redactor.text("box-a.example.net, box-b.example.net, box-a.corp.io") == "<host>, <host>, <host>"
    assert (
        redactor.text("box-a.json box-a.py lmbox-a example.network") == "<host>.json <host>.py lmbox-a example.network"
    )


def test_a_value_named_by_its_neighbour_is_taken_out(tmp_path: Path) -> None:
    header = [{"name": "HF_TOKEN", "value": "abcd1234"}, {"value": "qwertz99", "key": "X-Api-Key"}]
    builder = TraceBuilder().raw(ph="X", cat="cpu_op", name="a", pid=1, tid=1, ts=0, dur=1, args={"Headers": header})
    builder.raw(ph="X", cat="cpu_op", name="b", pid=1, tid=1, ts=2, dur=1, args={"Text": json.dumps(header)})
    path = builder.write(tmp_path / "n.json")
    text, _ = redacted(path, tmp_path)
    assert "abcd1234" not in text
    assert "qwertz99" not in text
    assert text.count("<secret>") == 4


def test_what_cant_be_read_isnt_copied(tmp_path: Path) -> None:
    data = TraceBuilder().op("aten::mm", 0, 100).op("victim", 200, 100).op("aten::add", 400, 100).json()
    broken = data.replace(b'"victim"', b'"/home/adoe/\xff' + HUB.encode() + b'\x01"').replace(
        b'"dur": 0.100', b'"dur": 0.100', 1
    )
    (tmp_path / "broken.json.gz").write_bytes(gzip.compress(broken)[:-9])
    text, done = redacted(tmp_path / "broken.json.gz", tmp_path)
    assert done.incomplete
    assert [word for word in ("adoe", HUB) if word in text] == []
    assert len(load(tmp_path / "copy.json").spans) == len(load(tmp_path / "broken.json.gz").spans)


CORPUS = [
    "corpus/h100_bert_small",
    "corpus/mi300x_sglang_prefill_decode",
    "corpus_2/vllm032_sequential/front_end",
    "corpus_2/transformers_serve",
]


@pytest.mark.skipif(not (SHARED / "corpus_2").is_dir(), reason="needs ../shared, real traces that are not shipped")
@pytest.mark.parametrize("name", [CORPUS[0], *thorough(CORPUS[1:])])
def test_real_traces_read_alike_and_hold_no_secret(name: str, tmp_path: Path) -> None:
    path = SHARED / f"{name}.json.gz"
    assert scan_secrets(path).counts == {}
    redact(path, tmp_path / "copy.json")
    check_alike(real_trace(path), load(tmp_path / "copy.json"))
