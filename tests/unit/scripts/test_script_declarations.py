"""What the scripts declare: other programs find them by file name, and send parameters by name."""

import ast
import runpy
from pathlib import Path

import omero.clients
import omero.scripts
import pytest

from biomeroworker.domain.constants import CLEANUP, LIVE_CHOICES, conversion, file_transfer, transfer
from biomeroworker.omero.scripts import run_choice, script

SCRIPTS = Path(__file__).parents[3] / "scripts"
#: By file: the declared name, and parameters that BIOMERO's scripts have.
CONTRACT = {
    "workflows/Labels2Rois.py": (
        "Labels2Rois",
        {
            *("Data_Type", "IDs", "ROI_type", "Search_Mode", "Label_Dataset_ID", "Label_Suffix", "Clear_Existing_ROIs"),
            *("Clear_ROI_Filter", "Delete_Label_Image", "Mapping_Mode", "Label_Image_IDs", "Target_Image_IDs"),
            *("ROI_Name_Prefix", "ROI_Color"),
        },
    ),
    "data/_SLURM_Image_Transfer.py": (
        "_SLURM_Image_Transfer",
        {
            *(transfer.DATA_TYPE, transfer.IDS, transfer.SETTINGS, transfer.CHANNELS, transfer.CHANNELS_GREY),
            *(transfer.CHANNELS_NAMES, transfer.MERGED, transfer.Z, transfer.Z_IDX, transfer.Z_IDX_START),
            *(transfer.Z_IDX_END, transfer.T, transfer.T_IDX, transfer.T_IDX_START, transfer.T_IDX_END, transfer.ZOOM),
            *(transfer.FORMAT, transfer.OME_VERSION, transfer.FOLDER, CLEANUP),
        },
    ),
    "data/_SLURM_File_Transfer.py": (
        "_SLURM_File_Transfer",
        {
            *(file_transfer.FILE_ANNOTATION_ID, file_transfer.FOLDER, file_transfer.PARAM_SLOT, file_transfer.FORMAT),
            CLEANUP,
        },
    ),
    "data/SLURM_Remote_Conversion.py": (
        "SLURM Remote Conversion",
        {
            *(conversion.INPUT_DATA, conversion.SOURCE_FORMAT, conversion.TARGET_FORMAT, conversion.PARENT_WORKFLOW_ID),
            *(CLEANUP, "Log_Fallback_Target"),
        },
    ),
    "data/SLURM_Get_Update.py": (
        "Slurm Get Update",
        {"Running Job", "SLURM Job Id", "Completed Job", "SLURM Job Id (old)", "Project"},
    ),
    "data/SLURM_Get_Results.py": ("Slurm Get Results", {"Completed Job", "SLURM Job Id", "workflow_uuid", "Task_ID"}),
    "data/SLURM_Import_Results.py": (
        "BIOMERO.SLURM_Import_Results",
        {"Completed Job", "SLURM Job Id", "workflow_uuid", "Task_ID", "Test_Write_Permissions_Only"},
    ),
    "admin/SLURM_Init_environment.py": (
        "Slurm Init (Admin Only)",
        {
            *("Init Slurm", "Extra Config file (optional!)", "Rebuild From Days Ago", "Rebuild From Date"),
            "Rebuild Analytics Views (skip if only adding new workflows!)",
        },
    ),
    "admin/SLURM_check_setup.py": ("Slurm Check Setup (Admin Only)", set()),
    "admin/Tail_logs.py": ("Tail Biomero Log (Admin Only)", {"Log_Path", "Tail_Lines"}),
    "workflows/Cancel_Run.py": ("Cancel Run", {run_choice.RUN, run_choice.RUN_ID}),
    "workflows/Resume_Run.py": ("Resume Run", {run_choice.RUN, run_choice.RUN_ID}),
    "workflows/Retry_Run.py": ("Retry Run", {run_choice.RUN, run_choice.RUN_ID, "Only_What_Failed", "Detach"}),
}


class Declared(Exception):
    """Ends a script where OMERO would end it after it has declared its parameters."""


@pytest.mark.parametrize("file", CONTRACT)
def test_a_script_declares_its_name_and_parameters_without_a_network(file, monkeypatch):
    found = {}

    def client(name, description, *parameters, **settings):
        found.update(settings, name=name, inputs={one.name(): one for one in parameters if one._in})
        assert description
        raise Declared

    monkeypatch.setattr(omero.scripts, "client", client)
    account = script.Account(user=7, user_name="ada", group=3, group_name="lab", is_admin=False)
    monkeypatch.setattr(script, "current_account", lambda: account)
    monkeypatch.setattr(run_choice, "own_labels", lambda user, wanted: [])
    with pytest.raises(Declared):
        runpy.run_path(str(SCRIPTS / file), run_name="__main__")
    name, parameters = CONTRACT[file]
    assert found["name"] == name
    assert parameters <= found["inputs"].keys()
    assert all(one.description for one in found["inputs"].values())
    assert (LIVE_CHOICES in found["namespaces"]) == (run_choice.RUN in found["inputs"]), "a list of runs is not cached"


def scripts():
    return sorted(str(file.relative_to(SCRIPTS)) for file in SCRIPTS.rglob("*.py"))


def test_no_script_is_directly_in_the_folder_because_the_page_admin_of_omero_biomero_is_empty_then():
    assert scripts()
    assert all(file.count("/") == 1 for file in scripts())


@pytest.mark.parametrize("file", scripts())
def test_a_dialog_opens_without_the_packages_that_only_its_action_needs(file):
    top = [
        node for node in ast.parse((SCRIPTS / file).read_text()).body if isinstance(node, ast.ImportFrom | ast.Import)
    ]
    modules = {node.module for node in top if isinstance(node, ast.ImportFrom)} | {
        alias.name for node in top if isinstance(node, ast.Import) for alias in node.names
    }
    assert not [name for name in modules if name and name.startswith(("biomeroworker.deployment", "biomero."))]
    assert "biomero" not in modules
