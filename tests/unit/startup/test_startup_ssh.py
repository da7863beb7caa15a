"""10-mount-ssh.sh: the mount's keys in $HOME/.ssh, at every start."""

import os
import socket
import stat
import subprocess

import pytest

from tests.unit.startup.startup_kit import AS_UNPRIVILEGED, UNPRIVILEGED_UID, Box, modes

KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\nsecret-of-the-key\n-----END OPENSSH PRIVATE KEY-----\n"
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be two users")


@pytest.fixture
def mounted(box: Box) -> Box:
    for name, text in {
        "id_ed25519": KEY,
        "id_ed25519.pub": "ssh-ed25519 AAAA me\n",
        "config": "Host hpc\n",
        "known_hosts": "hpc ssh-ed25519 AAAA\n",
    }.items():
        (box.mount / name).write_text(text)
    return box


def copy(box: Box, **variables: str) -> str:
    """Run the script; what it printed."""
    done = box.run("10-mount-ssh.sh", **variables)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    return done.stderr


def names(box: Box) -> set[str]:
    return {str(path.relative_to(box.ssh)) for path in box.ssh.rglob("*") if path.is_file()} - {
        ".mounted/files",
        ".mounted/known_hosts",
    }


def test_keys_are_copied_with_the_modes_that_ssh_requires(mounted):
    copy(mounted)
    assert (mounted.ssh / "id_ed25519").read_text() == KEY
    assert names(mounted) == {"id_ed25519", "id_ed25519.pub", "config", "known_hosts"}
    found = modes(mounted.ssh)
    assert found.pop(".") == 0o700
    assert found.pop(".mounted") == 0o700
    assert set(found.values()) == {0o600}


def test_real_ssh_reads_the_copied_configuration_and_key(box):
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", box.mount / "id_ed25519"], check=True)
    (box.mount / "id_ed25519").chmod(0o644)  # ssh refuses such a key
    copy(box)
    public = subprocess.run(
        ["ssh-keygen", "-y", "-f", box.ssh / "id_ed25519"], check=True, capture_output=True, text=True
    ).stdout
    assert public.split()[:2] == (box.mount / "id_ed25519.pub").read_text().split()[:2]


def test_one_log_line_names_the_files_without_their_content(mounted):
    output = copy(mounted)
    assert len(output.splitlines()) == 1
    assert "1 private key (id_ed25519)" in output
    assert "other files: config, id_ed25519.pub, known_hosts" in output
    assert "secret" not in output
    assert "AAAA" not in output


def test_public_keys_known_hosts_and_configuration_are_optional(box):
    (box.mount / "id_rsa").write_text(KEY)
    output = copy(box)
    assert names(box) == {"id_rsa"}
    assert "other files: none, no config, no known_hosts" in output


def test_a_second_start_changes_nothing(mounted):
    copy(mounted)
    before = {path: path.read_text() for path in mounted.ssh.rglob("*") if path.is_file()}
    copy(mounted)
    assert {path: path.read_text() for path in mounted.ssh.rglob("*") if path.is_file()} == before
    assert not (mounted.ssh / ".ssh").exists()


def test_a_folder_nested_by_mistake_is_not_copied(mounted):
    (mounted.mount / ".ssh").mkdir()
    (mounted.mount / ".ssh/id_ed25519").write_text(KEY)
    assert ".ssh (reserved name)" in copy(mounted)
    assert not (mounted.ssh / ".ssh").exists()


def test_a_key_removed_from_the_mount_is_removed_from_the_copy(mounted):
    copy(mounted)
    (mounted.mount / "id_ed25519").rename(mounted.mount / "id_new")
    output = copy(mounted)
    assert names(mounted) == {"id_new", "id_ed25519.pub", "config", "known_hosts"}
    assert "removed, no longer in the mount: id_ed25519" in output


def test_the_last_key_removed_from_the_mount_is_removed_too(box):
    (box.mount / "id_rsa").write_text(KEY)
    copy(box)
    (box.mount / "id_rsa").unlink()
    assert "warning: no private SSH key" in copy(box)
    assert names(box) == set()


def test_a_changed_key_replaces_the_copy(mounted):
    copy(mounted)
    (mounted.mount / "id_ed25519").write_text(KEY.replace("secret", "other"))
    copy(mounted)
    assert "other-of" in (mounted.ssh / "id_ed25519").read_text()


def test_files_that_the_script_did_not_copy_are_preserved(mounted):
    mounted.ssh.mkdir()
    (mounted.ssh / "id_own").write_text(KEY)
    copy(mounted)
    copy(mounted)
    assert (mounted.ssh / "id_own").read_text() == KEY


def test_an_existing_file_of_the_same_name_is_renamed(mounted):
    mounted.ssh.mkdir()
    (mounted.ssh / "config").write_text("Host own\n")
    assert "renamed to config.before-mount" in copy(mounted)
    assert (mounted.ssh / "config").read_text() == "Host hpc\n"
    assert (mounted.ssh / "config.before-mount").read_text() == "Host own\n"
    copy(mounted)
    assert (mounted.ssh / "config.before-mount").read_text() == "Host own\n"


def test_learned_host_keys_are_preserved_and_those_removed_from_the_mount_are_removed(mounted):
    copy(mounted)
    with (mounted.ssh / "known_hosts").open("a") as file:
        file.write("learned ssh-ed25519 BBBB\n")
    (mounted.mount / "known_hosts").write_text("hpc ssh-ed25519 RENEWED\n")
    copy(mounted)
    copy(mounted)
    assert (mounted.ssh / "known_hosts").read_text() == "hpc ssh-ed25519 RENEWED\nlearned ssh-ed25519 BBBB\n"


def test_learned_host_keys_are_preserved_if_the_mount_has_none(mounted):
    copy(mounted)
    with (mounted.ssh / "known_hosts").open("a") as file:
        file.write("learned ssh-ed25519 BBBB\n")
    (mounted.mount / "known_hosts").unlink()
    copy(mounted)
    assert (mounted.ssh / "known_hosts").read_text() == "learned ssh-ed25519 BBBB\n"


def test_a_last_line_without_a_line_end_does_not_merge_with_a_learned_one(mounted):
    (mounted.mount / "known_hosts").write_text("hpc ssh-ed25519 AAAA")
    mounted.ssh.mkdir()
    (mounted.ssh / "known_hosts").write_text("learned ssh-ed25519 BBBB\n")
    copy(mounted)
    assert (mounted.ssh / "known_hosts").read_text() == "hpc ssh-ed25519 AAAA\nlearned ssh-ed25519 BBBB\n"


def test_folders_are_copied_and_removed_with_the_mount(mounted):
    (mounted.mount / "config.d/lab").mkdir(parents=True)
    (mounted.mount / "config.d/lab/hpc").write_text("Host lab\n")
    copy(mounted)
    assert (mounted.ssh / "config.d/lab/hpc").read_text() == "Host lab\n"
    assert modes(mounted.ssh)["config.d"] == modes(mounted.ssh)["config.d/lab"] == 0o700
    (mounted.mount / "config.d/lab/hpc").unlink()
    copy(mounted)
    assert not (mounted.ssh / "config.d/lab/hpc").exists()


def test_modes_are_tightened_and_never_loosened(mounted):
    for path in mounted.mount.iterdir():
        path.chmod(0o666)
    mounted.mount.chmod(0o777)
    mounted.ssh.mkdir(mode=0o755)
    (mounted.ssh / "id_ed25519").write_text(KEY)
    (mounted.ssh / "id_ed25519").chmod(0o644)
    copy(mounted)
    assert not any(mode & 0o077 for mode in modes(mounted.ssh).values())


def test_a_file_is_private_from_its_first_moment(mounted):
    # the script writes with cat: this one records the mode of the file before it has content
    mounted.program("bin/cat", 'stat -L -c %a /proc/self/fd/1 >> "$HOME/modes"; exec /bin/cat "$@"')
    copy(mounted)
    assert set((mounted.home / "modes").read_text().split()) == {"600"}


def test_secrets_of_kubernetes_are_links_that_are_followed(box):
    (box.mount / "..2026_01_01").mkdir()
    (box.mount / "..2026_01_01/id_rsa").write_text(KEY)
    (box.mount / "..data").symlink_to("..2026_01_01")
    (box.mount / "id_rsa").symlink_to("..data/id_rsa")
    copy(box)
    assert names(box) == {"id_rsa"}
    assert not (box.ssh / "id_rsa").is_symlink()
    assert (box.ssh / "id_rsa").read_text() == KEY


def test_links_out_of_the_mount_and_broken_links_are_skipped_and_named(mounted):
    outside = mounted.folder / "outside"
    outside.write_text("private")
    (mounted.mount / "away").symlink_to(outside)
    (mounted.mount / "passwd").symlink_to("/etc/passwd")
    (mounted.mount / "dangling").symlink_to("nothing")
    (mounted.mount / "loop").symlink_to(".")
    output = copy(mounted)
    assert names(mounted) == {"id_ed25519", "id_ed25519.pub", "config", "known_hosts"}
    for name in (
        "away (link that leaves",
        "passwd (link that leaves",
        "dangling (link to nothing",
        "loop (link to a folder",
    ):
        assert name in output


def test_sockets_and_pipes_are_skipped_and_named(mounted):
    os.mkfifo(mounted.mount / "pipe")
    agent = socket.socket(socket.AF_UNIX)
    agent.bind(str(mounted.mount / "agent.sock"))
    output = copy(mounted)
    agent.close()
    assert "skipped: agent.sock (not a file), pipe (not a file)" in output
    assert "pipe" not in names(mounted)


def test_a_link_in_the_target_is_replaced_and_not_followed(mounted):
    victim = mounted.folder / "victim"
    victim.write_text("untouched")
    mounted.ssh.mkdir()
    for name in ("id_ed25519", "known_hosts"):
        (mounted.ssh / name).symlink_to(victim)
    copy(mounted)
    assert victim.read_text() == "untouched"
    assert (mounted.ssh / "id_ed25519").read_text() == KEY
    assert not (mounted.ssh / "known_hosts").is_symlink()


@pytest.mark.parametrize("name", [".ssh", ".ssh/config.d", ".ssh/.mounted"])
def test_a_link_in_the_place_of_a_target_folder_is_refused(mounted, name):
    (mounted.mount / "config.d").mkdir()
    (mounted.mount / "config.d/hpc").write_text("Host lab\n")
    elsewhere = mounted.folder / "elsewhere"
    elsewhere.mkdir(mode=0o755)
    link = mounted.home / name
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(elsewhere)
    done = mounted.run("10-mount-ssh.sh")
    assert done.returncode == 1
    assert f"{link} is a link" in done.stderr
    assert list(elsewhere.iterdir()) == []


def test_a_stale_key_is_not_removed_through_a_link(mounted):
    (mounted.mount / "keys").mkdir()
    (mounted.mount / "keys/id_rsa").write_text(KEY)
    copy(mounted)
    elsewhere = mounted.folder / "elsewhere"
    (mounted.ssh / "keys").rename(elsewhere)
    (mounted.ssh / "keys").symlink_to(elsewhere)
    (mounted.mount / "keys/id_rsa").unlink()
    copy(mounted)
    assert (elsewhere / "id_rsa").read_text() == KEY


def test_unusual_names_are_copied_and_names_with_line_ends_are_refused(box):
    for name in ("-rf", "with blank", "a*b", "$(touch x)", "ключ"):
        (box.mount / name).write_text(KEY)
    (box.mount / "two\nlines").write_text(KEY)
    output = copy(box)
    assert names(box) == {"-rf", "with blank", "a*b", "$(touch x)", "ключ"}
    assert "two?lines (control character" in output
    copy(box)
    assert len(names(box)) == 5


def test_a_missing_mount_is_a_warning_and_existing_keys_are_preserved(box):
    box.ssh.mkdir()
    (box.ssh / "id_own").write_text(KEY)
    box.mount.rmdir()
    output = copy(box)
    assert output.startswith("startup: warning: no SSH keys")
    assert names(box) == {"id_own"}


def test_a_missing_mount_is_an_error_if_keys_are_required(box):
    box.mount.rmdir()
    done = box.run("10-mount-ssh.sh", SSH_REQUIRED="1")
    assert done.returncode == 1
    assert "is not mounted" in done.stderr
    box.mount.mkdir()
    assert "no private SSH key" in box.run("10-mount-ssh.sh", SSH_REQUIRED="1").stderr


def test_a_file_in_place_of_the_mount_is_an_error(box):
    box.mount.rmdir()
    box.mount.write_text(KEY)
    done = box.run("10-mount-ssh.sh")
    assert (done.returncode, "is not a folder" in done.stderr) == (1, True)


def test_the_mount_on_top_of_the_target_is_an_error(box):
    box.ssh.mkdir()
    done = box.run("10-mount-ssh.sh", SSH_SOURCE=str(box.ssh))
    assert (done.returncode, "the same folder" in done.stderr) == (1, True)


@as_root
def test_a_read_only_mount_is_enough(mounted):
    command = (
        "mount --bind -o ro $SSH_SOURCE $SSH_SOURCE && touch $SSH_SOURCE/x; exec bash $STARTUP_FOLDER/10-mount-ssh.sh"
    )
    done = subprocess.run(
        ["unshare", "--mount", "bash", "-c", command], env=mounted.variables, capture_output=True, text=True
    )
    assert "Read-only" in done.stderr
    assert done.returncode == 0
    assert "id_ed25519" in names(mounted)


@as_root
def test_an_unreadable_key_is_one_line_with_file_owner_and_solutions(mounted):
    key = mounted.mount / "id_ed25519"
    key.chmod(0o600)
    os.chown(mounted.home, UNPRIVILEGED_UID, UNPRIVILEGED_UID)
    done = mounted.run("10-mount-ssh.sh", prefix=AS_UNPRIVILEGED)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert f"uid {UNPRIVILEGED_UID} cannot read {key} (uid 0, mode 600)" in done.stderr
    assert 'user: "0"' in done.stderr
    assert f"setfacl -R -m u:{UNPRIVILEGED_UID}:rX" in done.stderr


@as_root
def test_an_inaccessible_mount_is_one_line_too(mounted):
    mounted.mount.chmod(0o700)
    os.chown(mounted.home, UNPRIVILEGED_UID, UNPRIVILEGED_UID)
    done = mounted.run("10-mount-ssh.sh", prefix=AS_UNPRIVILEGED)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert f"cannot read {mounted.mount} (uid 0, mode 700)" in done.stderr


@as_root
def test_root_gives_the_copies_to_the_account(mounted):
    (mounted.mount / "config.d").mkdir()
    (mounted.mount / "config.d/hpc").write_text("Host lab\n")
    for path in mounted.mount.rglob("*"):
        os.chown(path, 4321, 4321)
    copy(mounted, SSH_OWNER=f"{UNPRIVILEGED_UID}:{UNPRIVILEGED_UID}")
    for path in (mounted.ssh, *mounted.ssh.rglob("*")):
        found = path.lstat()
        assert (found.st_uid, found.st_gid) == (UNPRIVILEGED_UID, UNPRIVILEGED_UID)
        assert not found.st_mode & (stat.S_IRWXG | stat.S_IRWXO)
