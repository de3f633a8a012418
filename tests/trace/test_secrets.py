"""What looks like a secret is found, whatever it is written in; what only resembles one is not. All are made up."""

from __future__ import annotations

import random
import string
from collections import Counter
from pathlib import Path

import pytest

from gemma_trace.health.secrets import secret_findings
from gemma_trace.trace.secret_scan import SecretScanner, scan_secrets
from gemma_trace.trace.secrets import find_secrets, readable

CHANCE = random.Random(1)
LETTERS = string.ascii_letters


def al(length: int, alphabet: str = LETTERS + string.digits) -> str:
    return "".join(CHANCE.choice(alphabet) for _ in range(length))


SECRETS = {
    "pat with an early underscore": "github_pat_11ABC_" + al(34),
    "name and value": '{"name": "HF_TOKEN", "value": "abcd1234"}',
    "value and name": '{"value": "abcd1234", "name": "DB_PASSWORD"}',
    "key and value, escaped": '{\\"key\\": \\"X-Api-Key\\", \\"value\\": \\"qwertz99\\"}',
    "a short number of a secret": '{\\"MY_SECRET\\": 12345}',
    "issuer key": "OPENAI_KEY=abcdefgh1",
    "hf letters only 34": "hf_" + al(34, LETTERS),
    "hf repeated a": "hf_" + "a" * 34,
    "hf lower": "hf_" + al(34, string.ascii_lowercase),
    "hf after \\n escape": "x\\nhf_" + al(34),
    "api_org": "api_org_" + al(34, LETTERS),
    "sk lower hex": "sk-" + al(32, "0123456789abcdef"),
    "sk letters": "sk-" + al(48, LETTERS),
    "sk-ant": "sk-ant-api03-" + al(90) + "AA",
    "sk-proj": "sk-proj-" + al(60),
    "ghp": "ghp_" + al(36),
    "gho": "gho_" + al(36),
    "ghs": "ghs_" + al(36),
    "pat": "github_pat_" + al(22) + "_" + al(59),
    "glpat": "glpat-" + al(20),
    "akia": "AKIA" + al(16, string.ascii_uppercase + "234567"),
    "asia": "ASIA" + al(16, string.ascii_uppercase + "234567"),
    "akia example": "AKIAIOSFODNN7EXAMPLE",
    "aws secret": "aws_secret_access_key = " + al(40, LETTERS + string.digits + "/+"),
    "aws secret letters": '"aws_secret_access_key": "' + al(40, LETTERS) + '"',
    "aiza": "AIza" + al(35),
    "xoxb": "xoxb-" + al(12, string.digits) + "-" + al(24),
    "xapp": "xapp-1-A01-" + al(30),
    "wandb": "WANDB_API_KEY=" + al(40, "0123456789abcdef"),
    "wandb v1": "wandb_v1_" + al(60),
    "nvapi": "nvapi-" + al(64),
    "jwt": "eyJ" + al(20) + ".eyJ" + al(40) + "." + al(43),
    "jwt short sig": "eyJ" + al(20) + ".eyJ" + al(40) + ".",
    "long jwt": "eyJ" + al(20) + ".eyJ" + al(3000) + "." + al(43),
    "pem": "-----BEGIN RSA PRIVATE KEY-----\\nMIIE" + al(60) + "\\n-----END RSA PRIVATE KEY-----",
    "pem openssh": "-----BEGIN OPENSSH PRIVATE KEY-----\\nMIIE",
    "pem enc": "-----BEGIN ENCRYPTED PRIVATE KEY-----",
    "pgp": "-----BEGIN PGP PRIVATE KEY BLOCK-----",
    "bearer": "Authorization: Bearer " + al(24),
    "bearer short": "Authorization: Bearer abc123def456",
    "auth json": '"Authorization": "Bearer ' + al(30, LETTERS) + '"',
    "basic": "authorization: Basic dXNlcjpwYXNzd29yZA==",
    "AUTH upper": "AUTHORIZATION: BEARER " + al(24),
    "url": "postgres://me:s3cr3t@db/x",
    "url nouser": "redis://:hunter22@h",
    "url long user": "https://" + "u" * 90 + ":hunter22@h",
    "url short pw": "https://me:pw@h/",
    "url escaped": "https:\\/\\/me:hunter22@h",
    "HF_TOKEN short": "HF_TOKEN=s3cr3tvalue",
    "HF_TOKEN json": '"HF_TOKEN": "abcdefghijklmn"',
    "HF_TOKEN spaced": '"HF_TOKEN" : "s3cr3tvalue1"',
    "HF_TOKEN letters": '"HF_TOKEN": "' + al(30, LETTERS) + '"',
    "nested": '"{\\"HF_TOKEN\\": \\"s3cr3tvalueabc\\"}"',
    "nested2": '"{\\\\\\"OPENAI_API_KEY\\\\\\": \\\\\\"s3cr3tvalueabc\\\\\\"}"',
    "DB_PASSWORD": "DB_PASSWORD=hunter2",
    "short pw": "DB_PASSWORD=abc1",
    "password json": '"password": "hunter2"',
    "pw spaces": '"password": "correct horse battery"',
    "Password camel": '"dbPassword": "hunter22"',
    "PASS number": '"DB_PASSWORD": 12345678',
    "SECRET word": '"MY_SECRET": "swordfish"',
    "secret mid": '"SECRET_SAUCE": "swordfish12"',
    "client_secret": '"client_secret": "' + al(20) + '"',
    "lower secret": '"my_secret": "swordfish-lake"',
    "x-api-key": '"x-api-key": "' + al(24) + '"',
    "api-key": "api-key: " + al(24),
    "apiKey": '"openaiApiKey": "' + al(30) + '"',
    "hub token lower": '"hf_token": "' + al(20) + '"',
    "hub token lower letters": '"hf_token": "' + al(20, LETTERS) + '"',
    "use token": "token='" + al(30) + "'",
    "XX_TOKEN": "GITLAB_TOKEN=" + al(12),
    "MY_ACCESS_TOKEN": "MY_ACCESS_TOKEN: " + al(12),
    "cli": "train.py --password hunter22 --x",
    "cli2": "train.py --api-key=" + al(12),
    "argv": '"--token", "' + al(30) + '"',
    "PASSWORD_PROD": "PASSWORD_PROD=hunter22",
    "token w/ dash": '"ACCESS_TOKEN": "ab-cd-ef-gh-ij-kl"',
    "dict list": '"passwords": ["hunter22"]',
    "py repr": "{'HF_TOKEN': 's3cr3tvalue99'}",
    "aws session": "AWS_SESSION_TOKEN=" + al(100),
    "u0068": "\\u0068f_" + al(34),
    "uescape 2lvl": "\\\\u0068f_" + al(34),
    "u mid": "hf_AbCd\\u0045" + al(30),
    "u005f": "hf\\u005f" + al(34),
    "hf hyphen before": "x-hf_" + al(34),
    "hf underscore before": "x_hf_" + al(34),
    "xref": '"k":"' + "ghp_" + al(36) + '"',
    "pwd": "MYSQL_PWD=hunter22",
    "underscore pw": '"password": "correct_horse_battery"',
    "aws secret slash": 'AWS_SECRET_ACCESS_KEY="wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"',
    "key name lower": '"secret_key": "' + al(32) + '"',
    "passphrase": '"SSH_PASSPHRASE": "hunter22x"',
    "credential": '"credentials": "' + al(30) + '"',
}

NO_SECRETS = [
    "max_new_tokens: 128",
    '"pad_token": "<pad>"',
    '"eos_token": "</s>"',
    '"token_type_ids": "abc"',
    '"num_tokens": "12345678901234567"',
    "num_tokens=15360",
    "step[EXTEND bs=15 toks=15360]",
    "SecretStorage==3.3.1",
    "python-secrets=23.4",
    "tokenization_gemma.py(10): __call__",
    '"tokenizer": "google/gemma-3-4b-it-abc123"',
    "triton_poi_fused_0d1d2d3de_" + al(40, "0123456789abcdef"),
    '"hash": "' + al(64, "0123456789abcdef") + '"',
    al(400, LETTERS + string.digits + "+/"),
    "task-0123456789ABCDEFabcdef0123",
    "risk-AbC0123456789012345678",
    "disk-" + al(30),
    '"token": "Hello"',
    '"token": null',
    "token=None",
    "use_auth_token=False",
    '"image_token": "<start_of_image>"',
    '"bos_token_id": 2',
    '"password": null',
    '"HF_TOKEN": null',
    '"HF_TOKEN": "hf_XXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXX"',
    '"HF_TOKEN": "hf_****"',
    "HF_TOKEN=$HF_TOKEN",
    "HF_TOKEN=${HF_TOKEN}",
    "hf_DistilBertForSequenceClassification",
    "hf_T5_generate",
    "key_value_states=abc0123456789012345",
    '"GOOGLE_APPLICATION_CREDENTIALS": "/etc/keys/app-credentials.json1234"',
    "c10::SecretHandler::run",
    '"api_key": "EMPTY"',
    '"decoder_start_token": "abcdef0123456789abcdef"',
    '"KEY": "0123456789abcdefghij"',
    '"SORT_KEY": "abcdefgh12345678901"',
    '"CACHE_KEY": "' + al(40, "0123456789abcdef") + '"',
    '"image_token": "abcdefgh1234567890abc"',
    '"PROFILE_TOKEN_COUNT": "100000000000000000"',
    "getpass.py(77): unix_getpass",
    '"PWD": "/home/me/x1"',
    '"OLDPWD": "/home/me/x1"',
    "git commit " + al(40, "0123456789abcdef"),
    '"cache_key": "' + al(40, "0123456789abcdef") + '"',
    '"token_id": 5',
    "CACHE_KEY=" + al(40, "0123456789abcdef"),
    "basic 0123456789abcdef_kernel",
    '"secret": false',
    "https://{user}:{password}@host/x",
    '{"name": "HF_TOKEN", "value": "<redacted>"}',
    '{"name": "pad_token", "value": "[PAD]"}, {"value": 3, "name": "num_tokens"}',
    "http://host:8080/x@y",
    "Basic block_0123456789abcdef",
]


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_is_found(name: str) -> None:
    assert find_secrets(readable(SECRETS[name]))


@pytest.mark.parametrize("place", range(len(NO_SECRETS)))
def test_what_resembles_a_secret_is_none(place: int) -> None:
    assert find_secrets(readable(NO_SECRETS[place])) == []


@pytest.mark.parametrize("seed", range(4))
def test_the_same_is_found_however_the_text_is_cut(seed: int) -> None:
    chance = random.Random(seed)
    texts = chance.sample(list(SECRETS.values()), 40)
    noise = [
        "".join(chance.choice('abc{}[]:,"\n 0123456789_/') for _ in range(chance.randrange(5, 3000))) for _ in texts
    ]
    text = " | ".join(part for pair in zip(noise, texts, strict=True) for part in pair)
    scanner, at = SecretScanner(), 0
    data = text.encode("latin-1")
    while at < len(data):
        length = chance.choice((700, 5000, 20000))
        scanner.feed(data[at : at + length])
        at += length
    scanner.finish()
    assert scanner.counts == Counter(secret.kind for secret in find_secrets(readable(text)))


def test_much_of_what_begins_like_a_secret_is_gone_through(tmp_path: Path) -> None:
    path = tmp_path / "hostile.json"
    for piece in (
        b"eyJ",
        b"\\",
        b"token: ",
        b"://",
        b"sk-",
        b"hf_",
        b'password="',
        b"\\u0068",
        b"secret:[",
        b"token    ",
    ):
        path.write_bytes(piece * (200_000 // len(piece)))
        scan_secrets(path)


def test_places_over_the_bound_are_counted_and_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gemma_trace.trace.secret_scan.MOST_PLACES", 10)
    path = tmp_path / "many.json"
    path.write_bytes(b'"api_key": "abcdefgh1" ' * 100)
    found = scan_secrets(path)
    assert found.looked_at == 10 + 2300 // 400
    assert found.passed_over == 100 - found.looked_at
    told = {finding.code: finding for finding in secret_findings(found)}
    assert told["secrets"].count == found.looked_at
    assert told["secrets_not_searched"].count == found.passed_over
    assert "100 places" in told["secrets_not_searched"].message
