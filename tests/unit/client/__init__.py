"""The command's parts, against a real HTTP server where they speak to one."""
