"""Maps to a better image: plan, regions, repaint, restore, composite, guidance, guard."""
