"""Settings: built once, from a mapping that is passed in."""

import msgspec
import pytest

from manent.engine.errors import Invalid
from manent.engine.settings import Secret, Settings, env_name, from_mapping, unknown_names


def test_nothing_given_is_the_defaults():
    """An empty mapping gives the defaults, and so do empty values."""
    assert from_mapping({}) == from_mapping({"MANENT_PORT": "", "OTHER": "x"}) == Settings()


def test_values_are_read_by_name():
    """Text becomes what the setting is; what is passed directly comes first, None is not given."""
    settings = from_mapping(
        {"MANENT_PORT": "0", "MANENT_DATABASE": "/x.db", "MANENT_LEASE_S": "7"}, database="/y.db", model=None
    )
    assert (settings.port, settings.database, settings.lease_s, settings.model) == (0, "/y.db", 7, None)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "65536"),
        ("PORT", "-1"),
        ("PORT", "http"),
        ("MAX_MESSAGES", "0"),
        ("DRAIN_S", "1.5"),
        ("TAIL_FRAMES", "-3"),
        ("QUEUE_WRITES", "many"),
    ],
)
def test_values_that_cannot_be_are_refused(name, value):
    """The refusal names the setting as it is set."""
    with pytest.raises(Invalid) as refused:
        from_mapping({f"MANENT_{name}": value})
    assert refused.value.extra["field"] == f"MANENT_{name}"


def test_every_setting_has_its_variable():
    """A setting's variable is its name in capitals, and each can be given as text of its default."""
    for field in msgspec.structs.fields(Settings):
        assert env_name(field.name) == f"MANENT_{field.name.upper()}"
        if field.default:
            assert getattr(from_mapping({env_name(field.name): str(field.default)}), field.name) == field.default


def test_keys_have_the_vendors_names_too(tmp_path):
    """Our own name comes first, then the vendor's; each may name a file."""
    file = tmp_path / "key"
    file.write_text(" from-file\n")
    for values, key in [
        ({"OPENAI_API_KEY": "vendor"}, "vendor"),
        ({"OPENAI_API_KEY": "vendor", "MANENT_OPENAI_API_KEY": "own"}, "own"),
        ({"OPENAI_API_KEY_FILE": str(file)}, "from-file"),
        ({"MANENT_OPENAI_API_KEY_FILE": str(file), "OPENAI_API_KEY": "vendor"}, "from-file"),
    ]:
        assert from_mapping(values).openai_api_key == key
    with pytest.raises(Invalid) as refused:
        from_mapping({"OPENAI_API_KEY_FILE": str(tmp_path / "nothing")})
    assert refused.value.extra["field"] == "OPENAI_API_KEY_FILE"
    assert str(tmp_path) not in refused.value.detail


def test_keys_do_not_show_themselves():
    """Neither a key nor the settings that hold it print it."""
    settings = from_mapping({"OPENAI_API_KEY": "sk-whisper"})
    assert settings.openai_api_key == "sk-whisper"
    assert "whisper" not in repr(settings) + repr(Secret("whisper"))


def test_slips_are_found():
    """Names that look like settings and are none are named; those of files of keys are known."""
    values = {
        "MANENT_PROT": "1",
        "MANENT_PORT": "1",
        "MANENT_OPENAI_API_KEY_FILE": "x",
        "MANENT_PORT_FILE": "x",
        "HOME": "/",
    }
    assert unknown_names(values) == ["MANENT_PORT_FILE", "MANENT_PROT"]


def test_settings_do_not_change():
    """One frozen value."""
    with pytest.raises(AttributeError):
        Settings().port = 1
