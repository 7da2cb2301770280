"""MDIQA, LAR-IQA and MoE-AGIQA, trained on pictures that people rated."""
