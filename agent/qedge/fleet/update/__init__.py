"""Software updates: signed bundles, two environments side by side, an updater outside the service."""
