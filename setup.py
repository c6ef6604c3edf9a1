"""What goes into the wheel; everything else about the project is in pyproject.toml."""

from setuptools import find_namespace_packages, setup

PACKAGES = ("common", "datamodules", "kdmodules", "audits", "callbacks", "studies", "kd_privacy")
# They lie at the top of the repository, and inside kd_privacy in a wheel.
FRAGMENTS = ["", *(f".{folder}" for folder in find_namespace_packages("configs"))]

setup(
    packages=[
        *find_namespace_packages(
            include=[f"{name}{end}" for name in PACKAGES for end in ("", ".*")]
        ),
        *(f"kd_privacy.configs{folder}" for folder in FRAGMENTS),
        "studies.docs",
    ],
    package_dir={"kd_privacy.configs": "configs", "studies.docs": "docs"},
    package_data={
        "kd_privacy": ["help/*.txt"],
        "datamodules.synthetic": ["*.yaml"],
        **{f"kd_privacy.configs{folder}": ["*.yaml"] for folder in FRAGMENTS},
        "studies.claims": ["*.yaml"],
        "studies.docs": ["glossary.md"],
        "studies.report": ["*.html", "*.css", "*.js", "*.yaml"],
        "studies.report.sections": ["*.json", "*.yaml"],
    },
)
