"""Each module of these rooms has a test file of its name, or a line here that says where it is tested."""

from __future__ import annotations

import pytest

from tests.conftest import ROOT

ELSEWHERE = {
    "trace/asking": "integration/test_attribution",
    "trace/clients": "served/test_merge",
    "trace/cache_seal": "trace/test_cache_faults",
    "trace/columns": "trace/test_reader",
    "trace/block_process": "trace/test_ahead",
    "trace/block_worker": "trace/test_ahead",
    "trace/block_workers": "trace/test_ahead",
    "trace/collected": "trace/test_reader",
    "trace/collective_args": "ranks/test_calls",
    "trace/cuts": "trace/test_chunks",
    "trace/derived": "integration/test_attribution",
    "trace/events": "trace/test_reader",
    "trace/files": "integration/test_kills",
    "trace/folders": "test_api",
    "trace/header": "trace/test_reader",
    "trace/jobs": "trace/test_ahead",
    "trace/locks": "test_signals",
    "trace/named_spans": "trace/test_plausible",
    "trace/near_names": "trace/test_rule_matches",
    "trace/open_spans": "integration/test_attribution",
    "trace/paths": "trace/test_short_paths",
    "trace/requests": "analysis/test_timeline",
    "trace/rule_runner": "trace/test_rule_matches",
    "trace/schema": "trace/test_reader",
    "trace/scratch": "test_signals",
    "trace/secret_names": "trace/test_secrets",
    "trace/secret_scan": "trace/test_secrets",
    "trace/sink": "trace/test_reader",
    "trace/structure": "trace/test_garbage",
    "trace/unusable": "cli/test_no_spans",
    "trace/waiting": "integration/test_threads",
    "trace/event_structs": "trace/test_reader",
    "export/added_events": "export/test_viewer",
    "export/chosen_ranks": "export/test_merged_ranks",
    "export/ids": "export/test_viewer",
    "export/links": "export/test_merged_ranks",
    "export/part": "export/test_viewer",
    "export/private_names": "export/test_redact",
    "export/redacted_json": "export/test_redact",
    "export/redacted_text": "export/test_redact",
    "export/rewriter": "export/test_viewer",
    "export/stage_tracks": "export/test_perfetto",
    "export/viewer_file": "export/test_viewer",
    "cli/advise": "advice/test_advise",
    "cli/what_if": "whatif/test_command",
    "cli/baseline": "store/test_baselines",
    "cli/ages": "history/test_history",
    "cli/capture": "integration/test_capture",
    "cli/check": "cli/test_commands",
    "cli/compare": "capture/compare/test_compare",
    "cli/diff": "cli/test_commands",
    "cli/doctor": "machine/test_doctor",
    "cli/export": "cli/test_no_spans",
    "cli/history": "history/test_history",
    "cli/hta": "hta/test_hta",
    "cli/index": "store/test_index",
    "cli/inputs": "test_remote",
    "cli/kernels": "cli/test_commands",
    "cli/mcp": "agents/test_server",
    "cli/progress": "cli/test_hostile_names",
    "cli/ranks": "ranks/test_folders",
    "cli/report_job": "report/test_job_page",
    "cli/rules": "cli/test_chosen_stage",
    "cli/skill": "agents/test_skill",
    "cli/sql": "sql/test_command",
    "cli/stages": "cli/test_commands",
    "cli/summarize": "cli/test_commands",
    "cli/sweep": "capture/test_sweep",
    "cli/tree": "cli/test_commands",
    "cli/view": "browser/test_view",
}


@pytest.mark.parametrize("room", ["trace", "export", "cli"])
def test_each_module_is_tested_by_a_file_of_its_name_or_where_it_is_said(room: str) -> None:
    modules = {path.stem for path in (ROOT / "gemma_trace" / room).glob("*.py")} - {"__init__"}
    own = {path.stem.removeprefix("test_") for path in (ROOT / "tests" / room).glob("test_*.py")}
    elsewhere = {name.split("/")[1] for name in ELSEWHERE if name.startswith(f"{room}/")}
    assert modules - own - elsewhere == set(), "say in ELSEWHERE where it is tested"
    assert elsewhere - modules == set(), "it is gone: take out its line"
    assert elsewhere & own == set(), "it has a file of its own: take out its line"


@pytest.mark.parametrize("where", sorted(set(ELSEWHERE.values())))
def test_the_file_that_is_named_is_there(where: str) -> None:
    assert (ROOT / "tests" / f"{where}.py").is_file()
