"""Where is the image bad (PQ-Map), and what of the prompt is missing (AQ-Map)?"""
