"""Who redraws crops: our own loop over SDXL, any loaded pipeline of diffusers, or anyone's function."""
