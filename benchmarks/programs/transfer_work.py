"""The incumbent's transfer of a folder: zip, send by SFTP, unzip; in both directions.

Reads one JSON document per line; answers each with the seconds that it took.
"""

import json
import shutil
import sys
import time
import zipfile
from pathlib import Path

from fabric import Config
from kinds import answering


def main(ssh_config, host, data):
    import logging

    from biomero.slurm_client import SlurmClient

    answer = answering()
    logging.disable(logging.WARNING)
    config = Config(runtime_ssh_path=ssh_config)
    client = SlurmClient(
        host=host, config=config, config_only=True, slurm_data_path=data, slurm_model_repos={}, slurm_model_images={},
        slurm_zip_cmd=SlurmClient._DEFAULT_SLURM_ZIP_CMD, connect_kwargs={"look_for_keys": False},
    )  # fmt: skip
    client.validate()
    answer("ready")
    for line in sys.stdin:
        command = json.loads(line)
        began = time.perf_counter()
        parts = {}
        if command["do"] == "send":
            archive = shutil.make_archive(command["archive"], "zip", command["folder"])
            parts["zip"] = time.perf_counter() - began
            client.transfer_data(archive)
            parts["sftp"] = time.perf_counter() - began - parts["zip"]
            client.unpack_data(Path(archive).stem)
            Path(archive).unlink()
        else:
            client.zip_data_on_slurm_server(f"{data}/{command['folder']}", f"{command['folder']}_out")
            parts["zip"] = time.perf_counter() - began
            archive = f"{data}/{command['folder']}/{command['folder']}_out"
            client.copy_zip_locally(command["local"], archive)
            parts["sftp"] = time.perf_counter() - began - parts["zip"]
            with zipfile.ZipFile(Path(command["local"]) / f"{Path(archive).name}.zip") as opened:
                opened.extractall(command["into"])
        took = time.perf_counter() - began
        parts["unzip"] = took - parts["zip"] - parts["sftp"]
        answer({"seconds": took, **parts})


main(*sys.argv[1:])
