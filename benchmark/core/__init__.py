"""What plug-ins may import: errors, registry, seeding, files. Imports nothing of ours."""
