"""grefine's nodes: where a picture is bad, which phrase it misses, and a judge that gives the original back."""

from comfy_api.latest import ComfyExtension, io

from .nodes import NODES


class Pack(ComfyExtension):
    """What is listed under "grefine" in the menu of nodes."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return list(NODES)


async def comfy_entrypoint() -> Pack:
    return Pack()
