"""Names that scripts, annotations and dashboards share: parameters of OMERO scripts, states of progress.

The literal strings are a contract: scripts use them as parameter names and in map annotations, dashboards compare
them. The classes are namespaces without instances.
"""

from __future__ import annotations

import re
from uuid import UUID

CLEANUP = "Cleanup?"
CONVERSION_SCRIPT = "SLURM_Remote_Conversion.py"
FILE_TRANSFER_SCRIPT = "_SLURM_File_Transfer.py"
IMAGE_EXPORT_SCRIPT = "_SLURM_Image_Transfer.py"
IMAGE_IMPORT_SCRIPT = "SLURM_Get_Results.py"
LABELS_TO_ROIS_SCRIPT = "Labels2Rois.py"
RUN_WF_BATCHED_SCRIPT = "SLURM_Run_Workflow_Batched.py"
RUN_WF_SCRIPT = "SLURM_Run_Workflow.py"
#: The name under which existing dashboards show the import task.
IMAGE_IMPORT_TASK = "SLURM_Import_Results.py"

#: Namespace of a script whose choices change often, such as a list of runs: its parameters are not cached for hours.
LIVE_CHOICES = "biomeroworker/live-choices"

#: Ten colours that are easy to distinguish, for the ROIs of different runs.
QUALITATIVE_COLOR_SCHEME = (
    "#147EB3",
    "#29A634",
    "#D1980B",
    "#D33D17",
    "#9D3F9D",
    "#00A396",
    "#DB2C6F",
    "#8EB125",
    "#946638",
    "#7961DB",
)


class conversion:  # noqa: N801
    """Parameters of the conversion script."""

    INPUT_DATA = "Input data"
    PARENT_WORKFLOW_ID = "Parent_Workflow_ID"
    SOURCE_FORMAT = "Source format"
    TARGET_FORMAT = "Target format"


class file_transfer:  # noqa: N801
    """Parameters of the script that sends attached files."""

    FILE_ANNOTATION_ID = "Annotation_ID"
    FOLDER = "Folder_Name"
    FORMAT = "Allowed_Formats"
    PARAM_SLOT = "Param_Slot"


class results:  # noqa: N801
    """Parameters of the script that brings results home."""

    IMPORT_LABEL_ZARRS = "Import_Label_Zarrs"
    IMPORT_ONLY_LABELS = "Import_Only_Labels"
    LOG_FALLBACK_TARGET = "Log_Fallback_Target"
    OUTPUT_ATTACH_DATASET = "Output - Attach as zip to dataset?"
    OUTPUT_ATTACH_DATASET_ID = "Dataset_Attach"
    OUTPUT_ATTACH_FILE_OUTPUTS = "Output - Attach non-image output files as annotations"
    OUTPUT_ATTACH_FILE_OUTPUTS_DATASET = "Attach file outputs to dataset"
    OUTPUT_ATTACH_FILE_OUTPUTS_DATASET_ID = "Dataset for file outputs"
    OUTPUT_ATTACH_FILE_OUTPUTS_PLATE = "Attach file outputs to plate"
    OUTPUT_ATTACH_FILE_OUTPUTS_PLATE_ID = "Plate for file outputs"
    OUTPUT_ATTACH_NEW_DATASET = "Output - Add as new images in NEW dataset"
    OUTPUT_ATTACH_NEW_DATASET_DUPLICATE = "Allow duplicate?"
    OUTPUT_ATTACH_NEW_DATASET_ID = "Dataset_ID"
    OUTPUT_ATTACH_NEW_DATASET_NAME = "New Dataset"
    OUTPUT_ATTACH_NEW_DATASET_RENAME = "Rename imported files?"
    OUTPUT_ATTACH_NEW_DATASET_RENAME_NAME = "Rename"
    OUTPUT_ATTACH_NEW_SCREEN = "Output - Add as new images in NEW screen"
    OUTPUT_ATTACH_NEW_SCREEN_DUPLICATE = "Allow duplicate screen name?"
    OUTPUT_ATTACH_NEW_SCREEN_ID = "Screen_ID"
    OUTPUT_ATTACH_NEW_SCREEN_NAME = "New Screen"
    OUTPUT_ATTACH_NEW_SCREEN_RENAME = "Rename imported screen files?"
    OUTPUT_ATTACH_NEW_SCREEN_RENAME_NAME = "Screen Rename"
    OUTPUT_ATTACH_OG_IMAGES = "Output - Add as attachment to original images"
    OUTPUT_ATTACH_PLATE = "Output - Attach as zip to plate?"
    OUTPUT_ATTACH_PLATE_ID = "Plate"
    OUTPUT_ATTACH_PROJECT = "Output - Attach as zip to project?"
    OUTPUT_ATTACH_PROJECT_ID = "Project"
    OUTPUT_ATTACH_TABLE = "Output - Add csv files as OMERO.table"
    OUTPUT_ATTACH_TABLE_DATASET = "Attach table to dataset"
    OUTPUT_ATTACH_TABLE_DATASET_ID = "Dataset for table"
    OUTPUT_ATTACH_TABLE_PLATE = "Attach table to plate"
    OUTPUT_ATTACH_TABLE_PLATE_ID = "Plate for table"
    OUTPUT_COMPLETED_JOB = "Completed Job"
    OUTPUT_CREATE_ROIS = "Create_ROIs"
    OUTPUT_SLURM_JOB_ID = "SLURM Job Id"
    ROI_CLEAR_EXISTING = "ROI_Clear_Existing"
    ROI_CLEAR_FILTER = "ROI_Clear_Filter"
    ROI_COLOR = "ROI_Color"
    ROI_DELETE_LABEL_IMAGES = "ROI_Delete_Label_Images"
    ROI_LABEL_PATTERN = "ROI_Label_Pattern"
    ROI_NAME_PREFIX = "ROI_Name_Prefix"
    ROI_SHAPE = "ROI_Shape"
    ROI_TARGET_IMAGE_IDS = "ROI_Target_Image_IDs"
    TASK_ID = "Task_ID"
    TEST_WRITE_PERMISSIONS_ONLY = "Test_Write_Permissions_Only"
    WORKFLOW_UUID = "workflow_uuid"
    WORKFLOW_UUID_OUTPUT = "Workflow_UUID"


class schema_formats:  # noqa: N801
    """Families of workflow descriptors."""

    BIAFLOWS = "BIAFLOWS"
    BILAYERS = "BILAYERS"
    BIOMERO_SCHEMA = "biomero-schema"
    CWL = "CWL"
    CYTOMINE = "cytomine-0.1"
    OPENAPI = "OpenAPI"


class slurm_env:  # noqa: N801
    """Environment variables that override the ini file."""

    BIOMERO_ANALYTICS_REBUILD_DAYS_AGO = "BIOMERO_ANALYTICS_REBUILD_DAYS_AGO"
    BIOMERO_ANALYTICS_REBUILD_START_TIME = "BIOMERO_ANALYTICS_REBUILD_START_TIME"
    BIOMERO_APPTAINER_CACHEDIR = "BIOMERO_APPTAINER_CACHEDIR"
    BIOMERO_APPTAINER_TMPDIR = "BIOMERO_APPTAINER_TMPDIR"
    BIOMERO_DEFAULT_PARTITION = "BIOMERO_DEFAULT_PARTITION"
    BIOMERO_ENV_FILE_SUBMISSION = "BIOMERO_ENV_FILE_SUBMISSION"
    BIOMERO_GPU_GPUS = "BIOMERO_GPU_GPUS"
    BIOMERO_GPU_GRES = "BIOMERO_GPU_GRES"
    BIOMERO_GPU_PARTITION = "BIOMERO_GPU_PARTITION"
    BIOMERO_IMAGE_PULL_VIA_SBATCH = "BIOMERO_IMAGE_PULL_VIA_SBATCH"
    BIOMERO_INJECT_GPU_FLAG = "BIOMERO_INJECT_GPU_FLAG"
    BIOMERO_PULL_CPUS = "BIOMERO_PULL_CPUS"
    BIOMERO_PULL_MEM = "BIOMERO_PULL_MEM"
    BIOMERO_SACCT_START_DAYS_AGO = "BIOMERO_SACCT_START_DAYS_AGO"
    BIOMERO_SACCT_START_TIME = "BIOMERO_SACCT_START_TIME"
    BIOMERO_SLURM_CONFIG_FILE = "BIOMERO_SLURM_CONFIG_FILE"
    BIOMERO_SLURM_ZIP_CMD = "BIOMERO_SLURM_ZIP_CMD"
    GPU_GPUS = "GPU_GPUS"
    GPU_GRES = "GPU_GRES"
    GPU_PARTITION = "GPU_PARTITION"
    SQLALCHEMY_URL = "SQLALCHEMY_URL"


class transfer:  # noqa: N801
    """Parameters of the export script."""

    CHANNELS = "Export_Individual_Channels"
    CHANNELS_GREY = "Individual_Channels_Grey"
    CHANNELS_NAMES = "Channel_Names"
    DATA_TYPE = "Data_Type"
    DATA_TYPE_DATASET = "Dataset"
    DATA_TYPE_IMAGE = "Image"
    DATA_TYPE_PLATE = "Plate"
    DATA_TYPE_PROJECT = "Project"
    DATA_TYPE_SCREEN = "Screen"
    FOLDER = "Folder_Name"
    FOLDER_DEFAULT = "SLURM_IMAGES_"
    FORMAT = "Format"
    FORMAT_OMETIFF = "OME-TIFF"
    FORMAT_OMEZARR = "OME-ZARR"
    FORMAT_TIFF = "TIFF"
    IDS = "IDs"
    MERGED = "Export_Merged_Image"
    OME_VERSION = "OME-Zarr_version"
    OME_ZARR_VERSION_0_4 = "0.4"
    OME_ZARR_VERSION_0_5 = "0.5"
    OME_ZARR_VERSION_0_6 = "0.6"
    OME_ZARR_VERSION_1_0 = "1.0"
    SETTINGS = "Image settings (Required)"
    T = "Choose_T_Section"
    T_ALL = "ALL T planes"
    T_DEFAULT = "Default-T (last-viewed)"
    T_IDX = "OR_specify_T_index"
    T_IDX_END = "...specify_T_end"
    T_IDX_START = "OR_specify_T_start_AND..."
    T_OTHER = "Other (see below)"
    Z = "Choose_Z_Section"
    ZOOM = "Zoom"
    ZOOM_100 = "100%"
    ZOOM_200 = "200%"
    ZOOM_25 = "25%"
    ZOOM_300 = "300%"
    ZOOM_400 = "400%"
    ZOOM_50 = "50%"
    Z_ALL = "ALL Z planes"
    Z_DEFAULT = "Default-Z (last-viewed)"
    Z_IDX = "OR_specify_Z_index"
    Z_IDX_END = "...specify_Z_end"
    Z_IDX_START = "OR_specify_Z_start_AND..."
    Z_MAXPROJ = "Max projection"
    Z_OTHER = "Other (see below)"


class workflow:  # noqa: N801
    """Parameters of the script that runs a workflow."""

    EMAIL = "E-mail"
    NO = "--NO THANK YOU--"
    OUTPUT_ATTACH = "2) Attach to original images"
    OUTPUT_ATTACH_FILE_OUTPUTS = "5) Attach individual non-image output files"
    OUTPUT_CREATE_ROIS = "6a) Create ROIs from label images"
    OUTPUT_CSV_TABLE = "4) Upload result CSVs as OMERO tables"
    OUTPUT_DUPLICATES = "3b) Allow duplicate dataset (name)?"
    OUTPUT_NEW_DATASET = "3a) Import into NEW Dataset"
    OUTPUT_NEW_SCREEN = "3a) Import into NEW Screen"
    OUTPUT_PARENT = "1) Zip attachment to parent"
    OUTPUT_RENAME = "3c) Rename the imported images"
    ROI_CLEAR_EXISTING = "6e) Clear existing ROIs on original images"
    ROI_CLEAR_FILTER = "6f) Clear existing ROI name filter"
    ROI_COLOR = "6g) ROI color override"
    ROI_DELETE_LABEL_IMAGES = "6d) Delete label images after ROI creation"
    ROI_LABEL_PATTERN = "6b) Label image pattern"
    ROI_SHAPE = "6c) ROI shape"
    SELECT_IMPORT = "Select how to import your results (one or more)"
    USE_ZARR_FORMAT = "Use_ZARR_Format"


class workflow_batched:  # noqa: N801
    """Parameters of its batched variant."""

    BATCH_SIZE = "Batch_Size"


class workflow_status:  # noqa: N801
    """The states that dashboards show for a run."""

    CONVERTING = "CONVERTING"
    DONE = "DONE"
    FAILED = "FAILED"
    IMPORTED = "IMPORTED"
    IMPORTING = "IMPORTING"
    INITIALIZING = "INITIALIZING"
    JOB_STATUS = "JOB_"
    POSTPROCESSING = "POSTPROCESSING"
    RETRIEVING = "RETRIEVING"
    RUNNING = "RUNNING"
    TRANSFERRING = "TRANSFERRING"


def resolve_workflow_color(color_override: str | None, workflow_id: UUID | str) -> str:
    """The given colour (``#RRGGBB``), in capitals; without one, a colour of the scheme that the run's id selects.

    Raises
    ------
    ValueError
        The given colour has another form.
    """
    wanted = (color_override or "").strip()
    if re.fullmatch("#[0-9A-Fa-f]{6}", wanted):
        return wanted.upper()
    if wanted:
        raise ValueError(f"a colour has the form #RRGGBB, not {wanted!r}")
    return QUALITATIVE_COLOR_SCHEME[UUID(str(workflow_id)).int % len(QUALITATIVE_COLOR_SCHEME)]
