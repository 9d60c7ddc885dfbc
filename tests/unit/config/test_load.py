from __future__ import annotations

import os
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kotaemon_grpc.config import Layers, load
from kotaemon_grpc.core.errors import OperatorError
from kotaemon_grpc.transport.address import Address

if TYPE_CHECKING:
    from collections.abc import Callable


def _error(
    *,
    file: Path | None = None,
    environ: dict[str, str] | None = None,
    flags: dict[str, object] | None = None,
) -> str:
    with pytest.raises(OperatorError) as raised:
        load(file=file, environ=environ or {}, flags=flags or {})
    return str(raised.value)


@pytest.fixture
def settings_file(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        path = tmp_path / "settings.toml"
        path.write_text(text)
        return path

    return write


def test_the_defaults_serve_on_loopback_with_tls() -> None:
    config = load(file=None, environ={}, flags={})
    assert config.server.listen == Address("127.0.0.1", 50051)
    assert config.server.health_listen == Address("127.0.0.1", 50052)
    assert config.operations.listen == Address("127.0.0.1", 9464)
    assert not config.server.insecure
    assert config.tls.is_development
    assert config.tls.files.certificate == Path("certs/dev/server.pem")
    assert config.storage.data_dir == Path("var")
    assert config.documents.max_document_bytes == 67108864


def test_flags_beat_the_environment_which_beats_the_file(
    settings_file: Callable[[str], Path],
) -> None:
    file = settings_file(
        '[server]\nlisten = "127.0.0.1:1"\nhealth_listen = "127.0.0.1:1"\nreflection = false\n'
        '[log]\nlevel = "debug"\n[documents]\nimport_paths = ["a"]\n'
    )
    config = load(
        file=file,
        environ={
            "KOTAEMON_GRPC_SERVER__LISTEN": "127.0.0.1:2",
            "KOTAEMON_GRPC_SERVER__HEALTH_LISTEN": "127.0.0.1:2",
        },
        flags={"server.listen": "127.0.0.1:3", "log.level": None, "documents.import_paths": ()},
    )
    assert config.server.listen.port == 3
    assert config.server.health_listen.port == 2
    assert not config.server.reflection
    assert config.log.level == "debug"
    assert config.documents.import_paths == (Path("a"),)


EMPTY = ("", "# only words\n", "[limits]\n")


@pytest.mark.parametrize("text", EMPTY)
def test_a_file_that_has_lost_all_its_keys_is_refused(
    settings_file: Callable[[str], Path], text: str
) -> None:
    layers = Layers(settings_file("limits.max_waiting = 7"), {}, {})
    assert layers.load().limits.max_waiting == 7
    for _ in range(2):
        settings_file(text)
        with pytest.raises(OperatorError, match="has no key any more"):
            layers.load()
    settings_file("policy.bindings = []")
    assert layers.load().limits.max_waiting == 32


@pytest.mark.parametrize("text", EMPTY)
def test_a_file_that_never_had_a_key_may_stay_so(
    settings_file: Callable[[str], Path], text: str
) -> None:
    layers = Layers(settings_file(text), {"KOTAEMON_GRPC_LOG__LEVEL": "debug"}, {})
    assert [layers.load().log.level for _ in range(2)] == ["debug"] * 2


def test_a_pipe_is_read_once(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    layers = Layers(pipe, {}, {})
    with ThreadPoolExecutor() as threads:
        writing = threads.submit(pipe.write_text, "limits.max_waiting = 7")
        assert layers.load().limits.max_waiting == 7
        writing.result()
    with pytest.raises(OperatorError, match="pipe cannot be used: it is not a regular file"):
        layers.load()


def test_a_file_that_is_too_large_is_refused(settings_file: Callable[[str], Path]) -> None:
    assert "it is larger than 1048576 bytes" in _error(file=settings_file("#" * 2**20 + "\n"))
    assert "it is larger than 1048576 bytes" in _error(file=Path("/dev/zero"))


def test_the_environment_names_the_file_unless_a_flag_does(
    settings_file: Callable[[str], Path], tmp_path: Path
) -> None:
    file = settings_file("[conversations]\nhistory_turns = 3\n")
    other = tmp_path / "other.toml"
    other.write_text("[conversations]\nhistory_turns = 4\n")
    environ = {"KOTAEMON_GRPC_CONFIG": str(file)}
    assert load(file=None, environ=environ, flags={}).conversations.history_turns == 3
    assert load(file=other, environ=environ, flags={}).conversations.history_turns == 4


@pytest.mark.parametrize("value", ['["a", "b"]', "['a', 'b']"])
def test_lists_in_the_environment_are_json_or_toml(value: str) -> None:
    environ = {"KOTAEMON_GRPC_DOCUMENTS__IMPORT_PATHS": value}
    config = load(file=None, environ=environ, flags={})
    assert config.documents.import_paths == (Path("a"), Path("b"))


@pytest.mark.parametrize("value", ['{"level": "error"}', 'level = "error"', "{level = 'error'}"])
def test_a_section_in_the_environment_is_a_table(value: str) -> None:
    environ = {"KOTAEMON_GRPC_LOG": value, "KOTAEMON_GRPC_LOG__FORMAT": "console"}
    if not value.startswith("{"):
        assert '"KOTAEMON_GRPC_LOG" is a table' in _error(environ=environ)
        return
    log = load(file=None, environ=environ, flags={}).log
    assert (log.level, log.format) == ("error", "console")


def test_text_in_the_environment_is_taken_as_it_is() -> None:
    environ = {
        "KOTAEMON_GRPC_STORAGE__DATA_DIR": "123",
        "KOTAEMON_GRPC_TLS__KEY_PASSPHRASE": '"quoted"',
        "KOTAEMON_GRPC_SERVER__SHUTDOWN_GRACE_S": "2",
        "KOTAEMON_GRPC_SERVER__INSECURE": "true",
    }
    config = load(file=None, environ=environ, flags={})
    assert config.storage.data_dir == Path("123")
    assert config.tls.key_passphrase.get_secret_value() == '"quoted"'
    assert config.server.shutdown_grace_s == 2.0
    assert config.server.insecure


def test_an_unknown_key_in_a_file_names_file_and_nearest_key(
    settings_file: Callable[[str], Path],
) -> None:
    file = settings_file('[server]\nlisen = "127.0.0.1:1"\n')
    assert _error(file=file) == (
        f'config file {file}: unknown key "server.lisen"; did you mean "server.listen"?'
    )


def test_an_unknown_section_names_the_nearest_key(settings_file: Callable[[str], Path]) -> None:
    file = settings_file("[sever]\ninsecure = true\n")
    assert 'unknown key "sever.insecure"; did you mean "server.insecure"?' in _error(file=file)


def test_an_unknown_variable_names_the_nearest_variable() -> None:
    assert _error(environ={"KOTAEMON_GRPC_SERVER__LISEN": "x"}) == (
        'environment: unknown key "KOTAEMON_GRPC_SERVER__LISEN"; '
        'did you mean "KOTAEMON_GRPC_SERVER__LISTEN"?'
    )


def test_an_unknown_flag_key_is_an_error() -> None:
    message = _error(flags={"storage.data": "x"})
    assert message == 'command line: unknown key "storage.data"; did you mean "storage.data_dir"?'


def test_variables_of_kubernetes_service_links_are_not_ours() -> None:
    environ = dict.fromkeys(
        (
            "KOTAEMON_GRPC_SERVICE_HOST",
            "KOTAEMON_GRPC_SERVICE_PORT",
            "KOTAEMON_GRPC_SERVICE_PORT_GRPC",
            "KOTAEMON_GRPC_PORT",
            "KOTAEMON_GRPC_PORT_50051_TCP",
            "KOTAEMON_GRPC_PORT_50051_TCP_ADDR",
            "KOTAEMON_GRPC_HEALTH_SERVICE_HOST",
        ),
        "10.0.0.1",
    )
    assert load(file=None, environ=environ, flags={}) == load(file=None, environ={}, flags={})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('[server]\nlisten = "127.0.0.1"\n', '"server.listen" is not valid: an address is'),
        ('[server]\nlisten = "[::1]:99999"\n', "the port is a number from 0 to 65535"),
        ('[server]\nlisten = "::1:5"\n', "stands in brackets"),
        ('[server]\nlisten = "300.1.1.1:5"\n', "four numbers"),
        ("[server]\nlisten = 50051\n", 'an address is "host:port"'),
        ('[server]\ninsecure = "yes"\n', "should be a valid boolean"),
        ('[server]\nmax_message_bytes = "big"\n', "should be a valid integer"),
        ("[server]\nmax_concurrent_streams = 0\n", "greater than or equal to 1"),
        ("[server]\nshutdown_grace_s = inf\n", "finite"),
        ('[log]\nlevel = "loud"\n', "should be 'debug', 'info', 'warning' or 'error'"),
        (
            "[limits]\nmax_deadline_s = 30.0\n",
            "[limits] is not valid: default_deadline_s, 60, is above max_deadline_s, 30",
        ),
        (
            '[traces]\ninsecure = true\nca = "ca.pem"\n',
            "[traces] is not valid: insecure speaks plaintext",
        ),
        ('[traces]\nendpoint = "http://collector:4317"\n', "it is a host and a port"),
        (
            '[server]\nlisten = "LOCALHOST:9"\n[[server.listeners]]\nlisten = "localhost:9"\n',
            "[server] is not valid: two listeners are at localhost:9; choose another port",
        ),
        (
            '[server]\nlisten = "[::1]:9"\n[[server.listeners]]\nlisten = "[0::1]:9"\n',
            "two listeners are at [::1]:9",
        ),
        ('[server]\nlisten = "127.0.0.1:50052"\n', "two listeners are at 127.0.0.1:50052"),
        ("[documents]\nimport_paths = [1]\n", '"documents.import_paths" is not valid'),
        ("[requests]\nmax_count = 0\n", '"requests.max_count" is not valid'),
        ("[requests]\nmax_count = 10000001\n", '"requests.max_count" is not valid'),
        ("server = 5\n", '"server" is a table of settings'),
    ],
)
def test_a_wrong_value_names_source_key_and_what_is_expected(
    settings_file: Callable[[str], Path], text: str, expected: str
) -> None:
    file = settings_file(text)
    message = _error(file=file)
    assert message.startswith(f"config file {file}: ")
    assert expected in message
    assert "\n" not in message


def test_listeners_may_share_a_host_a_port_or_any_port() -> None:
    flags = {
        "server.listen": "127.0.0.1:0",
        "server.health_listen": "127.0.0.1:0",
        "server.listeners": [{"listen": f"127.0.0.{end}"} for end in ("1:0", "1:9", "2:9")],
    }
    assert len(load(file=None, environ={}, flags=flags).server.listeners) == 3


def test_a_secret_is_shown_neither_in_an_error_nor_by_masked(
    settings_file: Callable[[str], Path],
) -> None:
    file = settings_file("[tls]\nkey_passphrase = [4711]\n")
    assert "4711" not in _error(file=file)
    config = load(file=None, environ={}, flags={"tls.key_passphrase": "geheim"})
    assert config.masked()["tls"]["key_passphrase"] == "*" * 8
    assert "geheim" not in repr(config) + str(config.masked())
    assert load(file=None, environ={}, flags={}).masked()["tls"]["key_passphrase"] == ""


def test_several_problems_are_several_lines(settings_file: Callable[[str], Path]) -> None:
    file = settings_file('[server]\nlisen = "a"\ninsecure = 1\n[log]\nlevel = "x"\n')
    assert len(_error(file=file).splitlines()) == 3


def test_flags_may_be_text_in_the_syntax_of_the_environment() -> None:
    flags = {
        "documents.max_document_bytes": "1000000",
        "documents.import_paths": '["a"]',
        "server.insecure": "true",
        "storage.data_dir": "7",
    }
    config = load(file=None, environ={}, flags=flags)
    assert config.documents.max_document_bytes == 1000000
    assert config.documents.import_paths == (Path("a"),)
    assert config.server.insecure
    assert config.storage.data_dir == Path("7")
    assert "should be a valid integer" in _error(flags={"documents.max_document_bytes": "big"})


def test_no_document_may_be_larger_than_an_offset_can_say() -> None:
    flags = {"documents.max_document_bytes": 2**31 - 1}
    assert load(file=None, environ={}, flags=flags).documents.max_document_bytes == 2**31 - 1
    message = _error(flags={"documents.max_document_bytes": 2**31})
    assert "less than or equal to 2147483647" in message


def test_a_certificate_without_a_key_is_an_error() -> None:
    message = _error(environ={"KOTAEMON_GRPC_TLS__CERTIFICATE": "a.pem"})
    assert message == 'environment: [tls] is not valid: "tls.certificate" needs "tls.key" beside it'
    assert '"tls.key" needs "tls.certificate"' in _error(flags={"tls.key": "k.pem"})


def test_named_files_take_the_place_of_the_development_pki() -> None:
    flags = {"tls.certificate": "a.pem", "tls.key": "b.pem"}
    tls = load(file=None, environ={}, flags=flags).tls
    assert tls.files == (Path("a.pem"), Path("b.pem"), Path("certs/dev/ca.pem"))
    assert not tls.is_development


@pytest.mark.parametrize("listen", ["0.0.0.0:1", "[::]:1", "example.org:1", "192.168.0.1:1"])
def test_plaintext_for_others_to_reach_is_refused_and_says_why(listen: str) -> None:
    message = _error(flags={"server.listen": listen, "server.insecure": True})
    assert message.startswith("command line: [server] is not valid: plaintext on ")
    assert "read along" in message


@pytest.mark.parametrize("listen", ["127.8.8.8:1", "[::1]:1", "localhost:0"])
def test_plaintext_on_loopback_is_possible(listen: str) -> None:
    flags = {"server.listen": listen, "server.insecure": True}
    assert str(load(file=None, environ={}, flags=flags).server.listen) == listen


def test_a_file_that_is_missing_not_text_or_not_toml_is_one_line(
    tmp_path: Path, settings_file: Callable[[str], Path]
) -> None:
    missing = tmp_path / "none.toml"
    assert _error(file=missing).startswith(f"config file {missing} cannot be read: no such file")
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"\xff\xfe")
    assert "is not UTF-8" in _error(file=binary)
    broken = settings_file("[server\n")
    assert _error(file=broken).startswith(f"config file {broken} is not TOML (at line 1, column 8)")


def test_what_masked_gives_is_itself_a_settings_file(settings_file: Callable[[str], Path]) -> None:
    config = load(file=None, environ={}, flags={"documents.import_paths": [Path("a")]})
    lines = []
    for section, values in config.masked().items():
        lines.append(f"[{section}]")
        for key, value in values.items():
            shown = str(value).lower() if isinstance(value, bool) else repr(value)
            lines.append(f"{key} = {shown}")
    text = "\n".join(lines)
    assert tomllib.loads(text) == config.masked()
    assert load(file=settings_file(text), environ={}, flags={}) == config


def test_every_setting_is_documented() -> None:
    config = load(file=None, environ={}, flags={})
    for section in type(config).model_fields:
        for key, field in type(getattr(config, section)).model_fields.items():
            assert field.description, f"{section}.{key}"
