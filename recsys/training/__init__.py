"""Full fine-tune and micro-update, each run as `python -m recsys.training`."""
