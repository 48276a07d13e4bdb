"""What the library costs, measured beside plain CDK in the same run: ratios, not seconds."""
