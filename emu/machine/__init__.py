"""What a guest lives in: vCPUs, memory, devices, time, and a machine saved to a file."""
