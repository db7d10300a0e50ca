"""The trio shell: listeners, the faces (federation, providers, clients), room actors, followers."""
