// Reads the phase of the T gate, 1/8 of a turn, into three bits: 001.
OPENQASM 2.0;
include "qelib1.inc";
qreg q[3];
qreg eigenstate[1];
creg c[3];
x eigenstate[0];
h q;
cu1(pi/4) q[0],eigenstate[0];
cu1(pi/2) q[1],eigenstate[0];
cu1(pi) q[2],eigenstate[0];
swap q[0],q[2];
h q[0];
cu1(-pi/2) q[0],q[1];
h q[1];
cu1(-pi/4) q[0],q[2];
cu1(-pi/2) q[1],q[2];
h q[2];
measure q -> c;
