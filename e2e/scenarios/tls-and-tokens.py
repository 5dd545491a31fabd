# machines: redis postgres secure persister remote client
"""Nobody gets in where they have no business: TLS, tokens, scopes, owners."""


def give(machine, path, text):
    """Writes a file that only root can read."""
    machine.succeed(f"install -D -m 600 /dev/stdin {path} <<'END'\n{text.strip()}\nEND")


def token(name, owner, scopes, more=""):
    """Makes a token, and gives its secret to the client."""
    edit = "imgsys-server --auth-tokens-file /root/secrets/tokens.toml token new"
    secret = secure.succeed(f"{edit} {name} --owner {owner} --scopes {scopes} {more}").strip()
    give(client, f"/root/{name}", secret)
    return secret


def as_user(name, command):
    """A command of the client, over TLS, with a token."""
    return f"imgsys --server tls://secure --ca /root/ca.pem --token-file /root/{name} {command}"


def refused(command, status, why):
    """Runs a command that has to fail so."""
    code, said = client.execute(f"{command} 2>&1", timeout=60)
    t.assertEqual(code, status, said)
    t.assertIn(why, said)


start_all()
persister.wait_for_unit("imgsys-persister.service")

# Two CAs, and a certificate of the first for the server.
key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes"
secure.succeed(
    "mkdir -p -m 700 /root/secrets; cd /root/secrets;"
    f" openssl req -x509 {key} -days 2 -subj /CN=one -keyout ca.key -out ca.pem;"
    f" openssl req -x509 {key} -days 2 -subj /CN=other -keyout other.key -out other.pem;"
    f" openssl req {key} -subj /CN=secure -keyout server.key -out server.csr;"
    " echo subjectAltName=DNS:secure >extensions;"
    " openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2"
    " -extfile extensions -out server.pem"
)
for name in ("ca", "other"):
    give(client, f"/root/{name}.pem", secure.succeed(f"cat /root/secrets/{name}.pem"))
fingerprint = secure.succeed(
    "openssl x509 -in /root/secrets/server.pem -noout -fingerprint -sha256 | cut -d = -f 2"
).strip()
remote.succeed("mkdir -p /var/lib/imgsys-e2e")
give(remote, "/var/lib/imgsys-e2e/ca.pem", secure.succeed("cat /root/secrets/ca.pem"))
remote.succeed("chmod 644 /var/lib/imgsys-e2e/ca.pem")

token("anna", "anna", "send,history")
token("bert", "bert", "send,history")
token("reader", "anna", "history")
token("boss", "carl", "admin")
token("brief", "anna", "send", "--expires 1s")
of_worker = token("worker", "workers", "worker")
give(client, "/root/wrong", "imgsys_wrong")
secure.succeed("systemctl start imgsys-server.service")

cat = "/etc/imgsys-e2e/samples/cat.jpg"

with subtest("a worker whose token is wrong gets no image, and the job waits for one that does"):
    give(remote, "/root/secrets/worker-token", "imgsys_wrong")
    remote.succeed("systemctl start imgsys-worker.service")
    job = client.succeed(as_user("anna", f"send --quiet --no-wait {cat}")).strip()
    remote.wait_until_succeeds(
        "journalctl -u imgsys-worker.service | grep 'does not accept our token' >/dev/null", timeout=60
    )
    give(remote, "/root/secrets/worker-token", of_worker)
    remote.succeed("systemctl restart imgsys-worker.service")
    told = json.loads(client.succeed(as_user("anna", f"wait --json {job}"), timeout=120))
    t.assertEqual(told["state"], "done")

with subtest("a client without TLS is told to use it"):
    refused("imgsys --server secure --token-file /root/anna status", 4, "over TLS only")

with subtest("a client does not talk to a server that it can't be sure of"):
    pinned = "imgsys --server tls://secure --token-file /root/anna --fingerprint"
    client.succeed(f"{pinned} {fingerprint} status")
    refused(f"{pinned} {'00' * 32} status", 3, "not the one with the fingerprint")
    other = "imgsys --server tls://secure --token-file /root/anna --ca /root/other.pem"
    refused(f"{other} status", 3, "signed by nobody whom we trust")

with subtest("nobody gets in without a token that is good"):
    refused("imgsys --server tls://secure --ca /root/ca.pem status", 4, "wants a token")
    refused(as_user("wrong", "status"), 4, "not known")
    client.wait_until_fails(as_user("brief", "status"), timeout=60)
    refused(as_user("brief", "status"), 4, "expired")

with subtest("a token allows what its scopes say, and no more"):
    refused(as_user("reader", f"send {cat}"), 4, "lacks the scope send")
    client.succeed(as_user("reader", "history"))
    refused(as_user("worker", "history"), 4, "lacks the scope history")

with subtest("another owner's job does not exist, but for the scope admin"):
    for command in ("show", "wait", "cancel", "get -o -"):
        refused(as_user("bert", f"{command} {job}"), 1, "unknown_job")
    refused(as_user("bert", "history --owner anna"), 4, "admin")
    t.assertEqual(client.succeed(as_user("bert", "history --json")), "")
    t.assertIn(job, client.succeed(as_user("boss", "history --json --all-owners")))

with subtest("a token that is taken back opens nothing"):
    client.succeed(as_user("bert", "status"))
    secure.succeed("imgsys-server --auth-tokens-file /root/secrets/tokens.toml token revoke bert")
    # systemd hands the file to the server when that starts.
    secure.succeed("systemctl restart imgsys-server.service")
    refused(as_user("bert", "status"), 4, "revoked")
    client.succeed(as_user("anna", f"show {job}"))
