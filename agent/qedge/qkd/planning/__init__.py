"""What a link can give before it is built: channel in closed form, expected blocks, best settings, rate against distance."""
