"""Write the configuration of OMERO.web and collect its static files; runs in the environment of OMERO.web.

python configure.py OMERODIR PORT_OF_OMERO
"""

import json
import os
import sys
from pathlib import Path

from omero.config import ConfigXml

folder, omero_port = Path(sys.argv[1]), int(sys.argv[2])
(folder / "etc/grid").mkdir(parents=True, exist_ok=True)
(folder / "var/log").mkdir(parents=True, exist_ok=True)
os.environ["OMERODIR"] = str(folder)
os.environ["DJANGO_SETTINGS_MODULE"] = "omeroweb.settings"


def write(values):
    """Set these keys in config.xml."""
    config = ConfigXml(str(folder / "etc/grid/config.xml"))
    for key, value in values.items():
        config[key] = value if isinstance(value, str) else json.dumps(value)
    config.close()


write({"omero.web.server_list": [["127.0.0.1", omero_port, "omero"]], "omero.web.apps": ["omero_biomero"]})

import django  # noqa: E402 (reads the file when it is imported)
from omeroweb import settings  # noqa: E402


def default(key):
    """The default of a key whose value is a list."""
    return json.loads(settings.CUSTOM_SETTINGS_MAPPINGS[key][1])


whitenoise = {"index": 0, "class": "whitenoise.middleware.WhiteNoiseMiddleware"}
write(
    {
        "omero.web.check_version": "false",
        "omero.web.middleware": [*default("omero.web.middleware"), whitenoise],
        "omero.web.ui.top_links": [
            *default("omero.web.ui.top_links"),
            ["BIOMERO", "biomero", {"title": "BIOMERO"}],
        ],
    }
)
django.setup()

from django.core.management import call_command  # noqa: E402

call_command("collectstatic", interactive=False, verbosity=0)
