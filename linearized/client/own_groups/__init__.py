"""What a device does with its groups, without the network: the layers that ``MlsDevice`` is made of."""
