"""A descriptor of each supported format."""

from __future__ import annotations

from typing import Any

import yaml

BIAFLOWS: dict[str, Any] = {
    "name": "NucleiTracking",
    "schema-version": "cytomine-0.1",
    "container-image": {"image": "registry.lab:5000/lab/w_tracking:v2", "type": "singularity"},
    "inputs": [
        {"id": "cytomine_host", "type": "String", "command-line-flag": "--@id", "set-by-server": True},
        {"id": "cytomine_id_project", "type": "Number", "set-by-server": True},
        {
            "id": "radius",
            "value-key": "@ID",
            "command-line-flag": "--@id",
            "name": "Radius",
            "type": "Number",
            "default-value": 5,
            "minimum": 1,
            "maximum": 50,
        },
        {"id": "threshold", "type": "Number", "default-value": 0.5, "optional": True},
        {"id": "invert", "type": "Boolean", "default-value": "false"},
        {"id": "stain", "type": "String", "default-value": "dapi", "value-choices": ["dapi", "h2b"]},
    ],
}

BIOMERO: dict[str, Any] = {
    "name": "W_Plates",
    "description": "Counts",
    "schema-version": "biomero-0.1",
    "container-image": {"image": "lab/w_plates", "type": "oci"},
    "configuration": {"resources": {"gpu": True, "ram-min": 2048, "cores-min": 4}},
    "command-line": "python run.py [IMAGES] [MODEL]",
    "inputs": [
        {"id": "images", "type": "image", "format": ["omezarr"], "sub-type": ["plate"], "set-by-server": True},
        {"id": "model", "type": "string", "default-value": "a", "mode": "advanced", "value-choices": ["a", "b"],
         "value-choices-labels": ["Model A", None]},
        {"id": "count", "type": "integer", "default-value": 3, "command-line-flag": "-n"},
    ],
    "outputs": [{"id": "labels", "type": "image", "format": "tif"}],
}  # fmt: skip

BILAYERS = yaml.safe_load("""
docker_image: {org: cellprofiler, name: runcellpose, tag: "2.3.2", platform: linux/amd64}
algorithm_folder_name: cellpose_inference
exec_function:
  cli_command: python -m cellpose
  hidden_args:
    - {cli_tag: --verbose, value: "", append_value: false}
    - {cli_tag: --channel, value: "0 1", append_value: true}
inputs:
  - {name: input_images, type: image, label: Images, cli_tag: "--dir=", optional: false, format: [tif]}
outputs:
  - {name: labels, type: image, label: Labels, cli_tag: None}
parameters:
  - {name: diameter, type: float, label: Diameter, default: 30, cli_tag: --diameter, optional: true}
  - {name: use_gpu, type: checkbox, label: GPU, default: true, cli_tag: --use_gpu}
  - {name: flag_word, type: checkbox, label: W, default: false, cli_tag: --word, append_value: true}
  - name: model
    type: radio
    label: Model
    default: nuclei
    cli_tag: --model=
    mode: advanced
    options: [{label: Cytoplasm, value: cyto}, {label: Nuclei, value: nuclei}]
  - {name: where, type: textbox, label: Where, default: "", cli_tag: --savedir, output_dir_set: true}
""")
