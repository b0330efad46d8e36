"""Commands about the hardware of this box: drivers, QPUs, random bytes."""
