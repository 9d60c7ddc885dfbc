"""`ask`, `search`, `documents`, `version` and `--help` against a real server."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import sys
from datetime import timedelta
from importlib.metadata import version
from typing import TYPE_CHECKING

import pytest

from kotaemon_grpc.transport import pki
from kotaemon_grpc.transport.certificate import utc_now

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import Any

    Command = Callable[..., subprocess.CompletedProcess[str]]

LIGHTHOUSE = "How many flashes does the lamp of the lighthouse show?"
NOTHING_FOUND = 3


def one_line(done: subprocess.CompletedProcess[str]) -> str:
    """The error of a verb that failed as it should."""
    assert done.returncode == 1, (done.stdout, done.stderr)
    assert not done.stdout
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    return line


def test_ask_prints_the_answer_and_its_sources(command: Command, server: Any) -> None:
    done = command("ask", LIGHTHOUSE, *server.flags)
    assert (done.returncode, done.stderr) == (0, "")
    assert "three white flashes every twenty seconds" in done.stdout
    sources = re.findall(r"^  \[\d+\] (.+)  <file://(.+)>$", done.stdout, re.MULTILINE)
    assert sources
    assert sources[0][1].endswith("/en/lighthouse.md")


def test_ask_json_has_the_keys_that_people_script_against(command: Command, server: Any) -> None:
    done = command("ask", "--json", LIGHTHOUSE, *server.flags)
    assert (done.returncode, done.stderr) == (0, "")
    (line,) = done.stdout.splitlines()
    answer = json.loads(line)
    assert list(answer) == ["answer", "citations", "finish_reason", "conversation"]
    assert "three white flashes" in answer["answer"]
    assert answer["finish_reason"] == "answered"
    assert re.fullmatch(r"conversations/[a-z0-9]+", answer["conversation"])
    assert answer["citations"]
    for citation in answer["citations"]:
        assert list(citation) == ["document", "title", "uri", "location", "snippet", "score"]
        assert citation["document"].startswith("collections/default/documents/")
        assert citation["snippet"] in answer["answer"]
        assert list(citation["location"]) == ["headings", "start_offset", "end_offset"]


def test_ask_goes_on_with_a_conversation(
    command: Command, server: Any, questions: dict[str, Any]
) -> None:
    case = questions["follow_ups"][0]
    first = json.loads(command("ask", "--json", case["first"], *server.flags).stdout)
    done = command(
        "ask", "--json", f"--conversation={first['conversation']}", case["then"], *server.flags
    )
    second = json.loads(done.stdout)
    assert second["conversation"] == first["conversation"]
    assert case["contains"] in second["answer"]


def test_ask_that_finds_nothing_says_so_in_the_language_of_the_question(
    command: Command, server: Any, questions: dict[str, Any]
) -> None:
    answers = {}
    for language in ("en", "zh"):
        question = next(
            each["question"] for each in questions["unanswerable"] if each["language"] == language
        )
        done = command("ask", "--json", question, *server.flags)
        assert (done.returncode, done.stderr) == (NOTHING_FOUND, "")
        answer = json.loads(done.stdout)
        assert answer["finish_reason"] == "nothing_found"
        assert answer["citations"] == []
        answers[language] = answer["answer"]
    assert answers["en"].isascii()
    assert re.search("[\u4e00-\u9fff]", answers["zh"])


def test_ask_without_a_server_fails_in_one_line(command: Command, certs: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        target = f"127.0.0.1:{free.getsockname()[1]}"
        line = one_line(command("ask", "why?", f"--target={target}", f"--certs={certs}"))
    assert "unavailable" in line
    assert target in line


def test_ask_with_the_certificate_of_a_stranger_fails_in_one_line(
    command: Command, server: Any, tmp_path: Path
) -> None:
    pki.ensure(tmp_path / "other")
    by_ca = command("ask", "why?", f"--target={server.address}", f"--certs={tmp_path / 'other'}")
    assert "unavailable" in one_line(by_ca)
    by_key = command(
        "ask",
        "why?",
        *server.flags,
        f"--certificate={tmp_path}/other/client.pem",
        f"--key={tmp_path}/other/client-key.pem",
    )
    assert "unavailable" in one_line(by_key)


def test_ask_with_an_expired_certificate_says_so(
    command: Command, server: Any, certs: Path, tmp_path: Path
) -> None:
    for name in ("ca.pem", "ca-key.pem"):
        shutil.copy(certs / name, tmp_path)
    # The CA's key is kept: the server would trust this certificate, had it not expired.
    pki.ensure(tmp_path, lambda: utc_now() - timedelta(days=8))
    done = command("ask", "why?", f"--target={server.address}", f"--certs={tmp_path}")
    line = one_line(done)
    assert f"certificate {tmp_path}/client.pem expired on " in line
    assert "certs init" in line
    installed = (f"--certificate={tmp_path}/client.pem", f"--key={tmp_path}/client-key.pem")
    line = one_line(command("ask", "why?", *server.flags, *installed))
    assert f"certificate {tmp_path}/client.pem expired on " in line
    assert line.endswith("; install a new one")


def test_a_text_cannot_command_the_terminal(command: Command, server: Any, tmp_path: Path) -> None:
    (tmp_path / "red.txt").write_text(
        "The alarm lamp is \x1b[31mred\x07 at night.", encoding="utf-8"
    )
    flags = (*server.flags, "--collection=terminal")
    assert command("import", str(tmp_path / "red.txt"), *flags).returncode == 0
    for verb in ("ask", "search"):
        done = command(verb, "What is the alarm lamp at night?", *flags)
        assert "The alarm lamp is \\x1b[31mred\\x07 at night." in done.stdout


def test_ask_without_certificates_says_how_to_get_them(
    command: Command, server: Any, tmp_path: Path
) -> None:
    done = command("ask", "why?", f"--target={server.address}", f"--certs={tmp_path}/none")
    assert one_line(done) == (
        f"error: there is no {tmp_path}/none/ca.pem; make development certificates with "
        '"kotaemon-grpc certs init" or name your own'
    )


def test_ask_with_a_file_that_is_missing_elsewhere_has_nothing_made(
    command: Command, server: Any, tmp_path: Path
) -> None:
    done = command("ask", "why?", *server.flags, f"--ca={tmp_path}/ca.crt")
    assert one_line(done) == (
        f"error: cannot read {tmp_path}/ca.crt (No such file or directory); "
        "mend it or name another file"
    )


def test_ask_with_files_that_cannot_be_used_names_them(
    command: Command, server: Any, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.pem"
    broken.write_text("-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n")
    for flag, said in (
        (f"--ca={broken}", f"{broken} has no certificate that can be used"),
        (f"--certificate={broken}", f"{broken} and {server.certs}/client-key.pem are not"),
        (f"--key={server.certs}/server-key.pem", "name two that belong together"),
    ):
        assert said in one_line(command("ask", "why?", *server.flags, flag))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([" \t "], "question: must not be empty or blank"),
        (["q" * 8193], "question: "),
        (["why?", "--collection=no-such"], 'collection "collections/no-such" does not exist'),
        (
            ["why?", "--conversation=conversations/none"],
            'conversation "conversations/none" does not exist',
        ),
        (["why \udcff?"], "not text in UTF-8"),
    ],
)
def test_ask_badly_fails_in_one_line(
    command: Command, server: Any, arguments: list[str], said: str
) -> None:
    assert said in one_line(command("ask", *arguments, *server.flags))


@pytest.mark.parametrize("arguments", [["ask"], ["ask", "--nonsense", "a"], ["nonsense"]])
def test_wrong_usage_is_status_2_and_says_how(command: Command, arguments: list[str]) -> None:
    done = command(*arguments)
    assert done.returncode == 2
    assert not done.stdout
    assert done.stderr.startswith("Usage: kotaemon-grpc ")
    assert "Traceback" not in done.stderr


def test_search_prints_passages_with_their_places(command: Command, server: Any) -> None:
    done = command("search", "stuffed pelican hatbox", "--max-results=2", *server.flags)
    assert (done.returncode, done.stderr) == (0, "")
    assert "[1] lost-property.txt  <file://" in done.stdout
    assert "a stuffed pelican in a hatbox" in done.stdout
    assert "[3]" not in done.stdout


def test_search_json_is_an_object_a_line(command: Command, server: Any) -> None:
    done = command("search", "--json", "anemometer calibrated", *server.flags)
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert "calibrated every eighteen months" in results[0]["text"]
    assert list(results[0]) == ["document", "title", "uri", "location", "text", "score"]
    assert [each["score"] for each in results] == sorted(
        (each["score"] for each in results), reverse=True
    )


def test_search_that_finds_nothing_is_status_3(command: Command, server: Any) -> None:
    done = command("search", "zzyzx", *server.flags)
    assert (done.returncode, done.stdout, done.stderr) == (NOTHING_FOUND, "", "no passages\n")
    done = command("search", "zzyzx", "--json", *server.flags)
    assert (done.returncode, done.stdout, done.stderr) == (NOTHING_FOUND, "", "")


def test_documents_are_listed_shown_and_deleted(
    command: Command, server: Any, tmp_path: Path
) -> None:
    (tmp_path / "kiln.md").write_text("# The kiln\n\nThe kiln is fired twice a month.\n")
    (tmp_path / "wheel.txt").write_text("The wheel turns to the left.\n")
    collection = "--collection=pottery"
    imported = command("import", "kiln.md", "wheel.txt", collection, *server.flags)
    assert imported.stdout == "2 created, 0 replaced, 0 unchanged, 0 failed\n"

    listed = command("documents", "list", "--json", collection, *server.flags)
    documents = [json.loads(line) for line in listed.stdout.splitlines()]
    assert {each["title"] for each in documents} == {"The kiln", "wheel.txt"}
    assert {each["state"] for each in documents} == {"indexed"}
    kiln = next(each for each in documents if each["title"] == "The kiln")
    assert kiln["uri"] == (tmp_path / "kiln.md").as_uri()

    name = kiln["name"]
    shown = command("documents", "get", name, *server.flags)
    assert shown.stdout.startswith(f"{name}\n  The kiln  <{kiln['uri']}>\n  text/markdown, ")
    assert json.loads(command("documents", "get", "--json", name, *server.flags).stdout) == kiln

    deleted = command("documents", "delete", name, *server.flags)
    assert (deleted.returncode, deleted.stdout, deleted.stderr) == (0, "", "")
    assert "does not exist" in one_line(command("documents", "get", name, *server.flags))
    assert "does not exist" in one_line(command("documents", "delete", name, *server.flags))
    left = command("documents", "list", collection, *server.flags)
    assert "wheel.txt" in left.stdout
    assert "kiln" not in left.stdout


def test_documents_of_an_unknown_collection_fail_in_one_line(command: Command, server: Any) -> None:
    done = command("documents", "list", "--collection=no-such", *server.flags)
    assert 'collection "collections/no-such" does not exist' in one_line(done)


def test_version_is_that_of_the_distribution(command: Command) -> None:
    assert command("version").stdout == f"{version('kotaemon-grpc')}\n"


def test_help_lists_every_verb_and_each_has_its_own(command: Command) -> None:
    overview = command("--help")
    assert overview.returncode == 0
    listed = re.findall(r"^  ([a-z]+)  ", overview.stdout.partition("Commands:")[2], re.MULTILINE)
    assert listed == [
        *("ask", "certs", "chat", "config", "documents"),
        *("health", "import", "keys", "search", "serve", "version"),
    ]
    # One process for all of them: what is printed is the same, and this is quicker.
    program = (
        "import sys\n"
        "from kotaemon_grpc.cli import main\n"
        "for verb in sys.argv[1:]:\n"
        "    sys.argv[1:] = [*verb.split(), '--help']\n"
        "    try:\n"
        "        main()\n"
        "    except SystemExit as end:\n"
        "        assert end.code == 0, verb\n"
    )
    verbs = [
        *listed,
        *("certs init", "certs issue", "certs show", "config show", "config check"),
        *("documents list", "documents get", "documents delete"),
        *("keys create", "keys list", "keys revoke"),
    ]
    done = subprocess.run(
        [sys.executable, "-c", program, *verbs], capture_output=True, text=True, check=True
    )
    usages = re.findall(r"^Usage: kotaemon-grpc ((?:[a-z]+ ?)+)", done.stdout, re.MULTILINE)
    assert [usage.strip() for usage in usages] == verbs


@pytest.mark.parametrize("verb", ["search", "config"])
def test_a_reader_that_goes_away_causes_no_traceback(
    server: Any, verb: str, tmp_path: Path
) -> None:
    arguments = {"search": ["search", "the", *server.flags], "config": ["config", "show"]}[verb]
    program = "from kotaemon_grpc.cli import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=tmp_path,
        text=True,
    )
    process.stdout.close()
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait() == 1
