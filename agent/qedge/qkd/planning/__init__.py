"""What a link will give: channel in closed form, expected blocks, best settings, rate against distance."""
