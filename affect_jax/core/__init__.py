"""What every other package uses: errors, registries, labels, batches, devices. Imports none of them."""
