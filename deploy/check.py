"""Reads what is in this folder, and says what is wrong with it."""

import pathlib
import sys

import yaml


def manifest(version, path):
    """Every document is strictly of its kind's schema in this version of Kubernetes."""
    import kubernetes_validate

    for document in yaml.safe_load_all(pathlib.Path(path).read_text()):
        kubernetes_validate.validate(document, version, strict=True)


def kustomization(folder):
    """What it names is there, and every reference between the manifests leads to something."""
    folder = pathlib.Path(folder)
    described = yaml.safe_load((folder / "kustomization.yaml").read_text())
    made = {item["name"] for item in described["configMapGenerator"]}
    for item in described["configMapGenerator"]:
        for name in item["files"]:
            assert (folder / name).is_file(), name
    for name in described["resources"]:
        for document in yaml.safe_load_all((folder / name).read_text()):
            pod = document["spec"].get("template", {}).get("spec", {})
            mounted = {
                mount["name"]
                for container in pod.get("containers", [])
                for mount in container.get("volumeMounts", [])
            }
            claims = document["spec"].get("volumeClaimTemplates", [])
            volumes = {volume["name"] for volume in pod.get("volumes", [])}
            volumes |= {claim["metadata"]["name"] for claim in claims}
            assert mounted == volumes, (name, mounted, volumes)
            for volume in pod.get("volumes", []):
                if "configMap" in volume:
                    assert volume["configMap"]["name"] in made, volume


def compose(path):
    """Every service has an image, and what it depends on and mounts is described."""
    described = yaml.safe_load(pathlib.Path(path).read_text())
    services, volumes = described["services"], described["volumes"]
    for name, service in services.items():
        assert service.get("image"), name
        for needed in service.get("depends_on", {}):
            assert needed in services, (name, needed)
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            is_file = source.startswith("./")
            known = (pathlib.Path(path).parent / source).is_file() if is_file else source in volumes
            assert known, (name, source)


if __name__ == "__main__":
    {"manifest": manifest, "kustomization": kustomization, "compose": compose}[sys.argv[1]](*sys.argv[2:])
