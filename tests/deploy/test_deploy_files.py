"""What lies in `deploy/` is what the product has: schemas, commands, flags, paths, users, no secrets.

There is no container engine in these tests: nothing is built or started.
"""

import re
import shlex
import subprocess
from pathlib import Path

import click
import kubernetes_validate
import pytest
import typer
import yaml
from dockerfile_parse import DockerfileParser

import fedcart
from server.folder import FrontSettings, OperatorSettings, RegistrySettings

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
DOCKERFILES = sorted(DEPLOY.glob("docker/*.Dockerfile"))
MANIFESTS = [
    pytest.param(document, id=f"{file.name}-{document['kind']}")
    for file in sorted(DEPLOY.glob("kubernetes/*.yaml"))
    for document in yaml.safe_load_all(file.read_text(encoding="utf-8"))
]
UNITS = sorted(DEPLOY.glob("systemd/*.service"))
COMPOSE = yaml.safe_load((DEPLOY / "docker" / "compose.yaml").read_text(encoding="utf-8"))
STATE = "/var/lib/fedcart"


def require_command(words: list[str]) -> None:
    """Fail unless `fedcart words` is a command of the product with these options."""
    command = typer.main.get_command(fedcart.app)
    context = click.Context(command)
    words = list(words)
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        name = words.pop(0)
        found = command.get_command(context, name)
        assert found is not None, f"fedcart has no command {name}"
        command, context = found, click.Context(found, parent=context)
    assert not isinstance(command, click.Group), "a command is missing"
    known = {option for parameter in command.params for option in parameter.opts}
    assert {word.partition("=")[0] for word in words if word.startswith("--")} <= known, words


def pods(document):
    return [document["spec"]] if document["kind"] == "Pod" else [document["spec"]["template"]["spec"]]


def test_there_is_something_for_each_role():
    assert [f.name for f in DOCKERFILES] == ["client.Dockerfile", "server.Dockerfile"]
    assert [f.name for f in UNITS] == ["fedcart-client.service", "fedcart-server.service"]
    assert set(COMPOSE["services"]) == {"server", "client"}
    assert {m.values[0]["kind"] for m in MANIFESTS} >= {"StatefulSet", "Service", "NetworkPolicy", "Pod"}


@pytest.mark.parametrize("file", DOCKERFILES, ids=lambda file: file.name)
def test_a_dockerfile(file, tmp_path):
    parser = DockerfileParser(path=str(tmp_path / "Dockerfile"))
    parser.content = file.read_text(encoding="utf-8")
    steps = [(s["instruction"], s["value"]) for s in parser.structure if s["instruction"] != "COMMENT"]
    of = {name: [value for instruction, value in steps if instruction == name] for name, _ in steps}
    role = file.name.partition(".")[0]
    assert of["USER"] == ["10001:10001"], "never root"
    assert set(of) <= {
        "FROM", "WORKDIR", "COPY", "ARG", "RUN", "ENV", "USER", "VOLUME", "EXPOSE", "HEALTHCHECK", "STOPSIGNAL",
        "ENTRYPOINT", "CMD",
    }  # fmt: skip
    assert yaml.safe_load(of["ENTRYPOINT"][0]) == ["fedcart"]
    require_command(yaml.safe_load(of["CMD"][0]))
    health = yaml.safe_load(of["HEALTHCHECK"][0].partition("CMD ")[2])
    assert health[0] == "fedcart"
    require_command(health[1:])
    assert of["VOLUME"] == [STATE]
    assert f"FEDCART_{role.upper()}={STATE}/" in of["ENV"][0]
    assert not re.search(r"secret|password|token|\.key", " ".join(of["ENV"] + of["ARG"] + of["COPY"]), re.I)
    assert not any("curl" in run or "sudo" in run for run in of["RUN"])
    if role == "server":
        ports = {9443, RegistrySettings().port}
        assert {int(port) for port in of["EXPOSE"][0].split()} == ports
    else:
        assert "EXPOSE" not in of, "nobody calls a platform"


def test_an_image_gets_the_product_and_nothing_else():
    lines = [
        line
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    assert lines[0] == "*"
    let_in = {line[1:] for line in lines if line.startswith("!")}
    assert all((ROOT / name).exists() for name in let_in)
    project = (ROOT / "pyproject.toml").read_text()
    packages = re.findall(r'"([a-z_]+)\*"', project.partition("packages.find")[2].partition("\n\n")[0])
    assert packages
    assert set(packages) < let_in, "what is installed is copied"
    assert not let_in & {".venv", "runs", "tests", "data"}


@pytest.mark.parametrize("name", sorted(COMPOSE["services"]))
def test_a_compose_service(name):
    service = COMPOSE["services"][name]
    assert (service["read_only"], service["user"], service["cap_drop"]) == (True, "10001:10001", ["ALL"])
    assert service["security_opt"] == ["no-new-privileges:true"]
    require_command(service["command"])
    assert service["healthcheck"]["test"][:2] == ["CMD", "fedcart"]
    require_command(service["healthcheck"]["test"][2:])
    build = service["build"]
    place = (DEPLOY / "docker" / build["context"]).resolve()
    assert place == ROOT
    assert (place / build["dockerfile"]).exists()
    assert "secrets" not in service
    assert "environment" not in service
    if name == "client":
        assert "ports" not in service
        assert [v["read_only"] for v in service["volumes"] if isinstance(v, dict)] == [True]


def test_the_commands_in_compose_s_comments_are_the_product_s():
    text = (DEPLOY / "docker" / "compose.yaml").read_text(encoding="utf-8")
    shown = re.findall(r"run --rm (?:server|client) (.*)", text)
    assert len(shown) == 2
    for line in shown:
        require_command([word for word in shlex.split(line) if word != "…"])


@pytest.mark.parametrize("document", MANIFESTS)
def test_a_manifest_is_one_of_kubernetes(document):
    kubernetes_validate.validate(document, "1.34", strict=True)


@pytest.mark.parametrize("document", [m for m in MANIFESTS if m.values[0]["kind"] in ("Pod", "StatefulSet")])
def test_a_pod_is_guarded(document):
    for pod in pods(document):
        security = pod["securityContext"]
        assert security["runAsNonRoot"]
        assert security["runAsUser"] == 10001
        assert security["fsGroupChangePolicy"] == "OnRootMismatch", "else keys become the group's"
        assert pod["automountServiceAccountToken"] is False
        claims = {v["name"] for v in pod["volumes"]}
        for container in pod["containers"]:
            own = container["securityContext"]
            assert own == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert "env" not in container, "no secret comes by the environment"
            assert {m["name"] for m in container["volumeMounts"]} == claims
            assert container["resources"]["limits"]["memory"]
            if document["kind"] == "StatefulSet":
                assert container["command"] == ["fedcart"]
                require_command(container["args"])
                for probe in ("startupProbe", "readinessProbe"):
                    words = container[probe]["exec"]["command"]
                    assert words[0] == "fedcart"
                    require_command(words[1:])


def test_ports_are_the_product_s():
    settings = OperatorSettings(name="g", address="h:9443", front=FrontSettings())
    wanted = {settings.front_listens[1], settings.registry.port}
    by_kind = {m.values[0]["metadata"]["name"] + m.values[0]["kind"]: m.values[0] for m in MANIFESTS}
    assert {p["port"] for p in by_kind["fedcart-serverService"]["spec"]["ports"]} == wanted
    policy = by_kind["fedcart-serverNetworkPolicy"]["spec"]
    assert {p["port"] for p in policy["ingress"][0]["ports"]} == wanted
    assert by_kind["fedcart-clientNetworkPolicy"]["spec"]["ingress"] == []
    assert settings.superlink.port not in wanted


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_a_unit_starts_a_command_of_the_product(unit):
    (start,) = re.findall(r"^ExecStart=(.*)$", unit.read_text(encoding="utf-8"), re.M)
    words = shlex.split(start)
    assert words[0] == "/opt/fedcart/bin/fedcart"
    require_command(words[1:])


def test_no_secret_lies_in_deploy():
    tracked = subprocess.run(
        ["git", "ls-files", "deploy"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.split()
    assert not [name for name in tracked if name.endswith((".key", ".secret", ".env", ".pem"))]
    for file in DEPLOY.rglob("*"):
        if file.is_file():
            assert "PRIVATE KEY" not in file.read_text(encoding="utf-8")


def test_a_wrong_flag_would_be_found():
    with pytest.raises(AssertionError):
        require_command(["server", "start", "--no-such-flag"])
    with pytest.raises(AssertionError):
        require_command(["server", "begin"])
