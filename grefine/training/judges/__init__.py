"""How the tiny quality networks are made: MDIQA, LAR-IQA and MoE-AGIQA on toy scenes with known truth."""
