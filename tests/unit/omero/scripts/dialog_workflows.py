"""Two workflows for the tests of the dialog."""

from biomeroworker.workflows.descriptor import Family, Parameter, ParameterType, Workflow

NUCLEI = Workflow(
    name="Nuclei",
    family=Family.BIAFLOWS,
    container_image="127.0.0.1:5000/lab/nuclei:v1.2.0",
    inputs=(
        Parameter(id="diameter", type=ParameterType.FLOAT, name="Diameter", default=0.1, minimum=0, maximum=500),
        Parameter(id="min_size", type=ParameterType.NUMBER, name="Min", default=30),
        Parameter(id="huge", type=ParameterType.INTEGER, name="Huge", default=2**40, advanced=True),
        Parameter(id="model", type=ParameterType.STRING, name="Model", default="b", choices=("a", "b")),
        Parameter(id="odd", type=ParameterType.STRING, name="Odd", default="c", choices=("a", "b")),
        Parameter(id="export_csv", type=ParameterType.BOOLEAN, name="CSV", default=True),
        Parameter(id="infolder", type=ParameterType.STRING, name="in", set_by_server=True),
        Parameter(
            id="weights",
            type=ParameterType.FILE,
            name="Weights",
            formats=("npz",),
            optional=True,
            set_by_server=True,
            file_attachment=True,
        ),
        Parameter(id="FILE_tag", type=ParameterType.STRING, name="Tag", optional=True),
    ),
)
OTHER = Workflow(name="Other", family=Family.BIAFLOWS, container_image="lab/other")
WORKFLOWS = [("nuclei", NUCLEI), ("other", OTHER)]
