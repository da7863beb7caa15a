"""The SLURM container: its data after a restart, and its message when no key is given."""

from __future__ import annotations

from tests.container.engine import Engine
from tests.container.stack import Stack, until


def test_a_restart_keeps_job_ids_accounting_and_the_host_key(stack: Stack) -> None:
    key = stack.execute("localslurm", "cat", "/var/lib/localslurm/ssh/ssh_host_ed25519_key.pub")
    first = submit(stack)
    stack.engine.run("restart", "-t", "30", stack.container("localslurm"))
    stack.await_health("localslurm")
    second = submit(stack)
    assert second == first + 1
    known = stack.execute("localslurm", "sacct", "-a", "-n", "-X", "-P", "-o", "JobID,State", "-S", "now-1days").split()
    assert {f"{first}|COMPLETED", f"{second}|COMPLETED"} <= set(known)
    assert stack.execute("localslurm", "cat", "/var/lib/localslurm/ssh/ssh_host_ed25519_key.pub") == key


def test_without_a_public_key_the_message_names_the_variable(engine: Engine, cluster_image: str) -> None:
    done = engine.attempt("run", "--rm", "--network=none", cluster_image)
    assert done.status == 1
    assert done.errors.count("error:") == 1
    assert "LOCALSLURM_AUTHORIZED_KEYS" in done.errors


def test_neither_keys_nor_accounting_are_in_the_image(engine: Engine, cluster_image: str) -> None:
    places = ["/etc/ssh/ssh_host_ed25519_key", "/etc/munge/munge.key", "/var/lib/localslurm/munge/munge.key"]
    done = engine.in_image(cluster_image, "sh", "-c", f"ls {' '.join(places)} 2>/dev/null; ls -A /var/lib/localslurm")
    assert done.output == ""


def submit(stack: Stack) -> int:
    """Run a job to its end as the account; its id."""
    command = "sbatch --parsable --wait -o /dev/null --wrap true"
    as_user = ["setpriv", "--reuid=hpcuser", "--regid=hpcuser", "--init-groups", "sh", "-c", f"cd /tmp && {command}"]
    number = int(stack.execute("localslurm", *as_user))
    wait_for_accounting(stack, number)
    return number


def wait_for_accounting(stack: Stack, number: int) -> None:
    query = ["sacct", "-a", "-n", "-X", "-P", "-o", "State", "-j", str(number)]
    until(lambda: stack.execute("localslurm", *query) == "COMPLETED", 30, f"accounting knows the end of job {number}")
