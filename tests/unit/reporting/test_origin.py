import platform
import subprocess

from calico.reporting.origin import describe_origin


def git(path, *arguments):
    identity = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
    subprocess.run(["git", *identity, *arguments], cwd=path, check=True, capture_output=True)


def test_commit_and_local_changes(tmp_path, monkeypatch):
    git(tmp_path, "init")
    (tmp_path / "file").write_text("a")
    git(tmp_path, "add", "file")
    git(tmp_path, "commit", "-m", "first")
    monkeypatch.chdir(tmp_path)
    commit = describe_origin()["commit"]
    assert len(commit) == 40
    (tmp_path / "file").write_text("b")
    assert describe_origin()["commit"] == f"{commit} with local changes"


def test_outside_of_a_checkout(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    origin = describe_origin()
    assert origin["commit"] == "unknown (not a git checkout)"
    assert origin["python"] == platform.python_version()
    assert "torch" in origin
