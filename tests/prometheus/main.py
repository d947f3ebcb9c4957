"""Asks a real Prometheus about every expression that deploy/ has."""

import json
import os
import pathlib
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

ROOT, WORK = (pathlib.Path(path) for path in sys.argv[1:3])
# What only certain installations or mishaps bring: a queue, a telemetry that drops. They are looked
# for in the program's source.
RARE = re.compile(r"partywall_(upstream_wait_seconds|refused_before_tenant)")
PASSED = 0


def passed(what):
    global PASSED
    PASSED += 1
    print(f"ok {PASSED} {what}")


def get(url, key=None):
    request = urllib.request.Request(url, headers={"authorization": f"Bearer {key}"} if key else {})
    with urllib.request.urlopen(request, timeout=20) as answer:
        return answer.read().decode()


def call(key):
    body = {"model": "sim-small", "messages": [{"role": "user", "content": "hello"}]}
    url = os.environ["OPENAI_BASE_URL"] + "/chat/completions"
    headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def expressions():
    """Each with where it stands."""
    for path in sorted((ROOT / "deploy/grafana").glob("*.json")):
        dashboard = json.loads(path.read_text())
        for panel in dashboard["panels"]:
            for target in panel["targets"]:
                yield f"{path.name}: {panel['title']}", target["expr"]
        for variable in dashboard["templating"]["list"]:
            if variable["type"] == "query":
                metric = re.fullmatch(r"label_values\((\w+), \w+\)", variable["query"]["query"])
                yield f"{path.name}: ${variable['name']}", metric[1]


def main():
    admin = urllib.parse.urlparse(os.environ["PARTYWALL_ADMIN_URL"])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(ROOT / "deploy/prometheus/alerts.yml")],
        "scrape_configs": [
            {
                "job_name": "partywall",
                "authorization": {"credentials": os.environ["PARTYWALL_OPERATOR_KEY"]},
                "static_configs": [{"targets": [admin.netloc]}],
            }
        ],
    }
    file = WORK / "prometheus.json"
    file.write_text(json.dumps(config))
    assert call(os.environ["OPENAI_API_KEY"]) == 200
    assert call("pw_nobody") == 401
    log = (WORK / "prometheus.log").open("w")
    prometheus = subprocess.Popen(
        [
            "prometheus",
            f"--config.file={file}",
            f"--storage.tsdb.path={WORK / 'tsdb'}",
            f"--web.listen-address=127.0.0.1:{port}",
        ],
        stdout=log,
        stderr=log,
    )
    try:
        check(f"http://127.0.0.1:{port}/api/v1")
    except BaseException:
        print((WORK / "prometheus.log").read_text()[-4000:])
        raise
    finally:
        prometheus.terminate()
        prometheus.wait()
    print(f"{PASSED} passed, 0 failed")


def check(api):
    def ask(path, **parameters):
        return json.loads(get(f"{api}/{path}?{urllib.parse.urlencode(parameters)}"))["data"]

    deadline = time.monotonic() + 60
    while True:
        try:
            up = ask("query", query='up{job="partywall"}')["result"]
            counted = ask("query", query="partywall_upstream_places")["result"]
            if up and up[0]["value"][1] == "1" and counted:
                break
        except OSError:
            pass
        assert time.monotonic() < deadline, "Prometheus has scraped nothing within a minute"
        time.sleep(0.3)
    passed("Prometheus scrapes partywall by an operator's key")
    there = set(ask("label/__name__/values"))
    source = "".join(path.read_text() for path in (ROOT / "crates/gateway/src").glob("*.rs"))
    every = list(expressions())
    for group in ask("rules")["groups"]:
        for rule in group["rules"]:
            assert rule["health"] != "err", rule
            every.append((f"alerts.yml: {rule['name']}", rule["query"]))
    assert len(every) > 20, every
    for where, expression in every:
        said = expression.replace("$__rate_interval", "1m").replace("$tenant", ".*")
        answer = ask("query", query=said)
        assert answer["resultType"] == "vector", (where, answer)
        names = re.findall(r"\b(?:partywall|gen_ai_client)_\w+", re.sub(r'"[^"]*"', "", said))
        assert names or "up{" in said, (where, said)
        for name in names:
            rare = RARE.match(name)
            base = rare and rare[0].removesuffix("_seconds")
            assert name in there or (base and f'"{base}"' in source), f"{where}: no metric {name}"
        passed(where)
    firing = [alert["labels"]["alertname"] for alert in ask("alerts")["alerts"]]
    assert firing == [], f"a quiet installation is told of: {firing}"
    passed("no rule fires on a quiet installation")


main()
