// Moves the state ry(1.0)|0> from qubit 0 to qubit 2 by two classical bits: out reads 1 in 23 % of the shots.
OPENQASM 2.0;
include "qelib1.inc";
qreg q[3];
creg zbit[1];
creg xbit[1];
creg out[1];
ry(1.0) q[0];
h q[1];
cx q[1],q[2];
cx q[0],q[1];
h q[0];
measure q[0] -> zbit[0];
measure q[1] -> xbit[0];
if(xbit==1) x q[2];
if(zbit==1) z q[2];
measure q[2] -> out[0];
