"""A tour of the engine with docker-py: run by tests/clients.rs as `docker_py.py URL ARCHIVE API_VERSION`."""
import json
import socket
import sys

import docker

url, archive, version = sys.argv[1:4]
client = docker.DockerClient(base_url=url, version=version, timeout=60)
assert client.ping()
assert client.version()["ApiVersion"]
assert client.info()["ContainersRunning"] == 0

with open(archive, "rb") as file:
    image = client.images.load(file)[0]
assert "busybox:latest" in image.tags, image.tags
assert client.images.get("busybox").id == image.id
assert image.history()

# Foreground runs, their output and their failures.
assert client.containers.run("busybox", ["echo", "hello"], remove=True) == b"hello\n"
try:
    client.containers.run("busybox", ["sh", "-c", "echo oops >&2; exit 3"], stderr=True, remove=True)
    raise AssertionError("exit code 3 must raise")
except docker.errors.ContainerError as error:
    assert error.exit_status == 3 and b"oops" in error.stderr, error
try:
    client.containers.run("no-such-image-here:1", remove=True)
    raise AssertionError("a missing image must raise")
except (docker.errors.ImageNotFound, docker.errors.APIError):
    pass

# A container that stays.
volume = client.volumes.create("py-data", labels={"from": "docker-py"})
network = client.networks.create("py-net", driver="bridge", labels={"from": "docker-py"})
box = client.containers.run(
    "busybox", ["sh", "-c", "echo ready; while read line; do echo got $line; done"], detach=True, stdin_open=True,
    name="py-box", labels={"a": "b"}, environment={"X": "1"}, network="py-net", ports={"80/tcp": ("127.0.0.1", None)},
    volumes={"py-data": {"bind": "/data", "mode": "rw"}}, mem_limit="64m", cpu_period=100_000, cpu_quota=50_000,
    restart_policy={"Name": "on-failure", "MaximumRetryCount": 2}, sysctls={"net.ipv4.ip_forward": "1"},
)
box.reload()
assert box.status == "running" and box.labels["a"] == "b"
assert box.attrs["HostConfig"]["Memory"] == 64 << 20
assert box.attrs["NetworkSettings"]["Networks"]["py-net"]["IPAddress"]
assert box.ports["80/tcp"][0]["HostIp"] == "127.0.0.1"

# The attach stream, written to and read from.
stream = box.attach_socket(params={"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1})
raw = getattr(stream, "_sock", stream)
raw.settimeout(20)
raw.sendall(b"ping\n")
received = b""
while b"got ping" not in received:
    received += raw.recv(4096)
raw.close()
assert b"ready\n" in box.logs() and b"got ping\n" in box.logs(tail=1)
assert next(box.logs(stream=True, follow=True)) .startswith(b"ready")

code, output = box.exec_run(["sh", "-c", "echo out; echo err >&2; exit 4"], demux=True)
assert code == 4 and output == (b"out\n", b"err\n"), (code, output)
who = box.exec_run("id -un", user="nobody")
assert who[1] == b"nobody\n", who
stats = box.stats(stream=False)
assert stats["memory_stats"]["usage"] > 0 and stats["cpu_stats"]["cpu_usage"]["total_usage"] > 0, stats
assert "sh" in json.dumps(box.top())
box.pause(); box.reload(); assert box.status == "paused"
box.unpause(); box.rename("py-box-2"); box.reload(); assert box.name == "py-box-2"
assert [c.name for c in client.containers.list(filters={"label": "a=b"})] == ["py-box-2"]
assert client.networks.get("py-net").attrs["Labels"]["from"] == "docker-py"
box.stop(timeout=0)
assert box.wait()["StatusCode"] in (137, 143)
box.remove()
network.remove()
volume.remove()
try:
    client.containers.get("py-box-2")
    raise AssertionError("a removed container must be gone")
except docker.errors.NotFound:
    pass

# Legacy attach: no Upgrade header, as clients of old send it.
silent = client.containers.create("busybox", ["echo", "legacy"])
path = url.removeprefix("unix://")
with socket.socket(socket.AF_UNIX) as plain:
    plain.settimeout(20)
    plain.connect(path)
    plain.sendall(f"POST /v{version}/containers/{silent.id}/attach?stream=1&stdout=1 HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n".encode())
    head = b""
    while b"\r\n\r\n" not in head:
        head += plain.recv(1)
    assert head.startswith(b"HTTP/1.1 200 OK"), head
    silent.start()
    body = b""
    while chunk := plain.recv(4096):
        body += chunk
    assert body.endswith(b"legacy\n"), body
silent.remove(force=True)
client.images.remove("busybox", force=True)
assert client.images.list() == []
print("all well")
