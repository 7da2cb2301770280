"""A judge in a process of its own: any Python, any packages; pictures come by path, scores go back as JSON lines."""

import json
import sys

from PIL import Image, ImageStat

print(json.dumps({"judge": {"name": "brightness", "range": [0, 255], "description": "mean of the grey picture"}}))
sys.stdout.flush()
for line in sys.stdin:
    request = json.loads(line)  # id, images, prompts (or null), device
    try:
        scores = [ImageStat.Stat(Image.open(path).convert("L")).mean[0] for path in request["images"]]
        answer = {"id": request["id"], "scores": scores}
    except Exception as error:  # told to whoever asked; the process goes on
        answer = {"id": request["id"], "error": str(error)}
    print(json.dumps(answer), flush=True)
