"""Everything that puts Millrace on machines: the embedded stack, and provisioning of stores and broker."""
