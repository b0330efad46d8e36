"""One root error with a stable code; the same error crosses MQTT, HTTP and the command line as itself.

The table `ERROR_CODES` is the one source of truth: the reference page `docs/reference/errors.md` is made from it.
"""

from __future__ import annotations

from typing import Final

from qedge.base.error_rows import ErrorSpec as ErrorSpec
from qedge.base.error_rows import Exit as Exit
from qedge.base.error_rows import Side as Side
from qedge.base.error_rows import local as _local
from qedge.base.error_rows import remote as _remote

Detail = str | int | float | bool | None

ERROR_CODES: Final[dict[str, ErrorSpec]] = {
    # base
    "internal.unexpected": _local(500, "A fault of the program; the log has the details.", Exit.SOFTWARE),
    "internal.stopping": _local(503, "The daemon is stopping and takes no new work.", Exit.TEMPORARY),
    # configuration
    "config.invalid": _local(500, "The configuration has faults; `qedge check` lists all of them.", Exit.CONFIG),
    "config.unreadable": _local(500, "A configuration file cannot be read.", Exit.NO_INPUT),
    "auth.list_too_old": _local(503, "The list of revoked keys is too old to tell whose key still counts."),
    # configuration that the fleet gives
    "fleet.not_due": _remote(409, "The certificate of a node is not due to be renewed yet."),
    "configuration.rejected": _remote(422, "A layer of the fleet's configuration has faults; nothing was changed."),
    "configuration.stale": _remote(409, "The serial of a layer is not higher than one that the node knows."),
    "configuration.not_staged": _remote(409, "The layer to apply is not the one that is staged."),
    "configuration.busy": _local(409, "The configuration is being changed already.", Exit.TEMPORARY),
    "configuration.nothing_to_undo": _remote(409, "There is no earlier layer to go back to from the one named."),
    "configuration.too_large": _local(500, "The settings are too many for one report."),
    "configuration.rolled_back": _local(500, "A new configuration was undone; the one before is in force."),
    "configuration.unwell": _local(500, "The node was not well with a new configuration within the time limit."),
    "configuration.no_start": _local(500, "The daemon did not come up with a new configuration."),
    "configuration.cancelled": _remote(409, "A change of the configuration was cancelled and undone."),
    # preflight of the first start
    "start.python_too_old": _local(500, "The Python interpreter is older than 3.11.", Exit.UNAVAILABLE),
    "start.already_running": _local(500, "Another daemon uses the same state directory.", Exit.UNAVAILABLE),
    "start.no_permission": _local(500, "A directory that the daemon needs cannot be written.", Exit.NO_PERMISSION),
    "start.disk_low": _local(500, "Too little free disk space in the state directory.", Exit.UNAVAILABLE),
    "start.port_taken": _local(500, "A configured port is in use by another program.", Exit.UNAVAILABLE),
    "start.path_too_long": _local(500, "A unix socket path is longer than the platform allows.", Exit.CONFIG),
    # diagnostics
    "diagnostics.unwritable": _local(507, "The bundle of diagnostics cannot be written.", Exit.CANT_CREATE),
    "diagnostics.unreadable": _local(500, "A file for the bundle of diagnostics cannot be read.", Exit.NO_INPUT),
    # store
    "store.disk_full": _local(507, "The state directory is full: new work is refused, accepted work is kept.", Exit.IO),
    "store.unavailable": _local(503, "The database cannot be used.", Exit.IO),
    "store.too_new": _local(500, "The database was written by a newer version of qedge.", Exit.DATA),
    # bus
    "bus.unavailable": _local(503, "No connection to the MQTT broker."),
    "bus.timeout": _local(504, "No answer over MQTT before the deadline.", Exit.TEMPORARY),
    "bus.refused": _local(
        502, "The MQTT broker refused the connection; check its URL and credentials.", Exit.NO_PERMISSION
    ),
    "bus.too_large": _remote(413, "A message is larger than the wire allows."),
    "bus.bad_message": _remote(400, "A message cannot be decoded.", Exit.PROTOCOL),
    "bus.no_broker": _local(503, "No broker program can be started as a child."),
    # sessions between nodes
    "session.failed": _remote(400, "A handshake with another node failed.", Exit.PROTOCOL),
    "session.unexpected": _remote(400, "A flight of a handshake came that was not due.", Exit.PROTOCOL),
    "session.unknown": _remote(400, "A frame came of a session that is not known.", Exit.PROTOCOL),
    "session.replayed": _remote(400, "A frame came again, or too late.", Exit.PROTOCOL),
    "session.bad_frame": _remote(400, "A frame does not open: it was altered, or is none.", Exit.PROTOCOL),
    "session.too_many": _local(503, "More handshakes begin than the node takes.", Exit.TEMPORARY),
    "session.extra_key_missing": _local(503, "Policy wants an extra key in every session, and none is at hand."),
    "crypto.no_suite": _local(500, "No suite of algorithms is both allowed and possible here.", Exit.CONFIG),
    "auth.bad_key": _remote(400, "A key is malformed, or of an algorithm that identities do not use.", Exit.DATA),
    "auth.bad_signature": _remote(401, "A signature is not good.", Exit.NO_PERMISSION),
    "auth.bad_request": _remote(400, "A signing request is malformed.", Exit.DATA),
    "auth.untrusted": _remote(
        401, "A certificate does not lead to the fleet's anchor, or is not valid now.", Exit.NO_PERMISSION
    ),
    "auth.revoked": _remote(401, "A key was revoked, by the fleet's authority or by a node.", Exit.NO_PERMISSION),
    "auth.unsigned": _remote(401, "A message that must be signed is not.", Exit.NO_PERMISSION),
    # peers
    "peer.unknown": _remote(404, "No peer of the fleet has this name.", Exit.USAGE),
    "peer.unreachable": _local(503, "The peer cannot be reached now."),
    "peer.timeout": _local(504, "The peer did not answer before the deadline.", Exit.TEMPORARY),
    "peer.busy": _local(503, "The peer answers too many questions already.", Exit.TEMPORARY),
    "peer.not_offered": _remote(501, "The peer does not answer this kind of question.", Exit.UNAVAILABLE),
    # algorithms
    "crypto.refused_algorithm": _remote(400, "An algorithm that is never used here was named.", Exit.CONFIG),
    "crypto.unavailable_algorithm": _remote(
        501, "An algorithm that is not standardized yet, or experimental and not asked for, was named.", Exit.CONFIG
    ),
    "crypto.unknown_algorithm": _remote(400, "No algorithm has this name.", Exit.CONFIG),
    "crypto.test_failed": _local(500, "An algorithm failed its self test.", Exit.SOFTWARE),
    # fleets
    "fleet.renewal_refused": _remote(403, "The fleet's authority renews no certificate of the node."),
    "fleet.issuing_ends": _remote(503, "The issuing certificate of the fleet's authority ends too soon."),
    "fleet.bad_level": _remote(422, "The level of a fleet is 3 or 5.", Exit.USAGE),
    "fleet.bad_name": _remote(422, "The name cannot be one of a fleet or of its members.", Exit.USAGE),
    "fleet.bad_passphrase": _remote(401, "The passphrase of the authority is wrong.", Exit.NO_PERMISSION),
    "fleet.weak_passphrase": _remote(422, "The passphrase is too short.", Exit.USAGE),
    "fleet.exists": _remote(409, "The folder has a fleet already.", Exit.CANT_CREATE),
    "fleet.none": _remote(404, "No fleet was founded in the folder.", Exit.NO_INPUT),
    "fleet.folder": _local(500, "The folder of the authority cannot be used.", Exit.IO),
    "fleet.no_member": _remote(404, "The fleet has no such member.", Exit.USAGE),
    "fleet.name_taken": _remote(409, "Another box of the fleet has the name.", Exit.USAGE),
    "fleet.not_requested": _remote(409, "A certificate is for a key that the node does not have.", Exit.DATA),
    "fleet.loopback_broker": _local(409, "Other boxes cannot reach the broker of this node.", Exit.CONFIG),
    "fleet.bad_invitation": _remote(400, "The invitation cannot be read.", Exit.DATA),
    "fleet.join_refused": _remote(403, "The fleet did not let the box in.", Exit.NO_PERMISSION),
    "fleet.expired": _remote(410, "The invitation has expired or was used.", Exit.NO_PERMISSION),
    "fleet.not_inviting": _local(503, "A box wants to join, and no program of an operator waits for it."),
    "fleet.not_member": _remote(409, "The node is a fleet of one.", Exit.USAGE),
    # the fleet tool
    "fleet.bad_selection": _remote(422, "A selection of nodes cannot be read.", Exit.USAGE),
    "fleet.nobody": _remote(404, "No node of the fleet is meant by the selection.", Exit.USAGE),
    "fleet.bad_waves": _remote(422, "The waves of a roll-out make no sense.", Exit.USAGE),
    "fleet.bad_arguments": _remote(422, "The arguments do not fit the kind of command.", Exit.USAGE),
    "fleet.no_command": _remote(404, "The node has no such request on its topic, or not any more.", Exit.USAGE),
    "fleet.no_rollout": _remote(404, "There is no roll-out of this id.", Exit.USAGE),
    "fleet.busy": _local(409, "Another program works on the file.", Exit.TEMPORARY),
    "fleet.rollout_damaged": _local(500, "The file of a roll-out was altered.", Exit.DATA),
    "fleet.trail_damaged": _local(500, "The audit trail of an operator was altered.", Exit.DATA),
    # software updates
    "update.bad_bundle": _remote(400, "A bundle of an update is damaged, too large, or not the one that was ordered."),
    "update.bad_signature": _remote(
        401, "A bundle is not signed by both halves of a trusted release key.", Exit.NO_PERMISSION
    ),
    "update.bad_request": _local(400, "A file between the daemon and the updater cannot be read.", Exit.DATA),
    "update.no_key": _local(503, "The box trusts no release key, or others than root could change it.", Exit.CONFIG),
    "update.no_slots": _local(503, "The program is not installed in two environments side by side.", Exit.CONFIG),
    "update.no_updater": _local(503, "Nothing on the box takes up the request for an update.", Exit.CONFIG),
    "update.no_service": _local(500, "The service manager does not do what the updater asks.", Exit.OS),
    "update.no_copy": _local(500, "The databases cannot be copied before the switch.", Exit.IO),
    "update.not_offered": _remote(404, "No bundle of the version is offered on the box."),
    "adapter.refused": _remote(403, "A local tool wants what this node does not do for one."),
    "adapter.bad_command": _remote(400, "A command of a local tool cannot be read."),
    "adapter.not_uploaded": _remote(502, "The file transfer service did not take a file.", Exit.UNAVAILABLE),
    "update.not_for_here": _remote(409, "A bundle does not go onto this box: version, Python or platform differ."),
    "update.not_fetched": _local(502, "A bundle cannot be fetched from where it is said to be.", Exit.IO),
    "update.not_built": _local(500, "The new version cannot be installed, or failed its dry start.", Exit.SOFTWARE),
    "update.interrupted": _local(500, "The box went down several times during an update.", Exit.TEMPORARY),
    "update.rolled_back": _local(500, "The new version was not well, and the one before runs again.", Exit.SOFTWARE),
    # policies
    "policy.invalid": _local(422, "A policy has faults; `qedge policy check` lists all of them.", Exit.CONFIG),
    "policy.unreadable": _local(500, "The policy file cannot be read.", Exit.NO_INPUT),
    "policy.off": _local(503, "The node enforces no policy: it takes no devices.", Exit.CONFIG),
    "policy.bad_bundle": _remote(400, "A signed policy cannot be read, or is not of this fleet."),
    "policy.old": _remote(409, "The fleet has a newer policy than the one that is offered.", Exit.USAGE),
    "policy.expired": _remote(410, "A signed policy has expired.", Exit.USAGE),
    "policy.bad_request": _remote(422, "A request to decide cannot be read.", Exit.USAGE),
    # workers and drivers
    "worker.unavailable": _local(503, "The worker is not running; it is being restarted.", Exit.TEMPORARY),
    "worker.crashed": _local(502, "The worker died while it ran the request.", Exit.SOFTWARE),
    "worker.deadline": _local(504, "The worker did not answer before the deadline and was replaced.", Exit.TEMPORARY),
    "worker.bad_answer": _local(502, "The worker answered with something that is not an answer.", Exit.PROTOCOL),
    "worker.too_large": _local(413, "A message to or from a worker is larger than its limit."),
    "driver.not_found": _remote(404, "No driver of this name is installed or configured.", Exit.USAGE),
    "driver.bad_settings": _local(422, "The driver refused its settings.", Exit.CONFIG),
    "driver.retriable": _local(503, "The driver reported a fault that may pass.", Exit.TEMPORARY),
    "driver.fatal": _local(502, "The driver reported a fault that will not pass by itself.", Exit.SOFTWARE),
    "driver.lied": _local(502, "The driver answered with data that cannot be true (shape, range, NaN).", Exit.PROTOCOL),
    "driver.locked": _remote(409, "The driver is locked by the operator.", Exit.UNAVAILABLE),
    "driver.api_mismatch": _local(501, "The driver was written for another version of the contract.", Exit.CONFIG),
    # entropy
    "entropy.no_quantum": _local(503, "No healthy quantum source, and the request accepts no other."),
    "entropy.too_little": _local(
        503, "A random source claims so little entropy that no block can be made of a read.", Exit.TEMPORARY
    ),
    "entropy.bad_length": _remote(422, "The number of bytes asked for is out of range.", Exit.USAGE),
    # circuits
    "circuit.too_large": _remote(413, "The program text is longer than the limit."),
    "circuit.syntax": _remote(422, "The program text is neither valid OpenQASM nor a circuit of cirq in JSON."),
    "circuit.unsupported": _remote(422, "The program uses a construct that this node does not run."),
    "circuit.undeclared_name": _remote(422, "The program uses a name that it did not declare."),
    "circuit.duplicate_name": _remote(422, "The program declares a name twice."),
    "circuit.index_out_of_range": _remote(422, "An index is outside its register."),
    "circuit.duplicate_qubit": _remote(422, "A gate is given the same qubit twice."),
    "circuit.bad_arity": _remote(422, "A gate has the wrong number of qubits or parameters."),
    "circuit.bad_measurement": _remote(422, "A measurement does not fit its registers."),
    "circuit.not_unitary": _remote(422, "A matrix or a phase is not unitary."),
    "circuit.recursive_gate": _remote(422, "A gate definition uses itself."),
    "circuit.expression_too_deep": _remote(422, "An expression is nested too deeply."),
    "circuit.bad_number": _remote(422, "A number cannot be read."),
    "circuit.nonfinite_parameter": _remote(422, "A parameter is infinite or not a number."),
    "circuit.unbound_parameter": _remote(422, "A parameter of the program has no value."),
    "circuit.unknown_parameter": _remote(422, "A value is given for a parameter that the program does not have."),
    "circuit.no_measurement": _remote(422, "The program measures nothing, so there is nothing to count."),
    "circuit.too_many_qubits": _remote(422, "The program needs more qubits than this node can hold."),
    "circuit.too_entangled": _remote(422, "The state is too entangled for the bond that is allowed."),
    "circuit.too_many_ops": _remote(422, "The program expands to more operations than the limit."),
    # jobs
    "job.bad_request": _remote(400, "The request cannot be read.", Exit.USAGE),
    "job.bad_sweep": _remote(422, "The points of a sweep or the rows of a kernel do not fit together.", Exit.USAGE),
    "job.bad_observable": _remote(422, "An observable is no sum of Pauli products over the qubits.", Exit.USAGE),
    "job.bad_bits": _remote(422, "A bit or a state that is asked for does not exist.", Exit.USAGE),
    "job.bad_option": _remote(422, "A method or an option of the simulator does not exist.", Exit.USAGE),
    "job.false_result": _remote(502, "The result of another node cannot be true."),
    "job.cannot_split": _remote(422, "The job is asked for in parts, and cannot be cut.", Exit.USAGE),
    "job.bad_shots": _remote(422, "The number of shots is not a whole number of at least 1.", Exit.USAGE),
    "job.too_many_shots": _remote(422, "More shots than the limit.", Exit.USAGE),
    "job.too_much_memory": _remote(422, "The job needs more memory than this node can give."),
    "job.result_too_large": _remote(422, "The result would be larger than the limit."),
    "job.deadline_infeasible": _remote(422, "The job cannot end before its deadline."),
    "job.deadline_unreachable": _remote(422, "With what waits already, the job cannot end before its deadline."),
    "job.unplaceable": _remote(422, "No node of the fleet is as the job wants it."),
    "job.shed": _local(503, "The node is not well and takes no more jobs of this class.", Exit.TEMPORARY),
    "job.deadline_exceeded": _remote(408, "The deadline of the job passed before it ended.", Exit.TEMPORARY),
    "job.quota_exceeded": _remote(429, "The client asked for more than it may have at a time.", Exit.TEMPORARY),
    "job.no_template": _remote(404, "No template has this hash on this node.", Exit.USAGE),
    "job.queue_full": _local(429, "The queue of this node is full; try again later.", Exit.TEMPORARY),
    "job.not_found": _remote(404, "No job has this id on this node.", Exit.USAGE),
    "job.conflict": _remote(409, "The idempotency key was used before with another request.", Exit.USAGE),
    "job.cancelled": _remote(410, "The job was cancelled."),
    "job.already_ended": _remote(409, "The job has ended.", Exit.USAGE),
    "job.no_node": _remote(404, "No node of the fleet has the name that the job asks for.", Exit.USAGE),
    "job.runner_lost": _local(504, "The node that had the job is gone and did not come back in time."),
    "job.stale_lease": _remote(409, "The job was given to somebody else, or to the same runner anew.", Exit.TEMPORARY),
    "job.interrupted": _local(500, "The run of a job that may run only once was cut off."),
    "job.no_receipt": _local(404, "There is no receipt with a result."),
    "job.bad_receipt": _remote(422, "A receipt is not for this result, job or lease."),
    "job.draining": _local(503, "The node takes no jobs: it is being drained.", Exit.TEMPORARY),
    "job.no_qpu": _local(503, "No QPU driver is ready on this node.", Exit.TEMPORARY),
    # decode streams
    "decode.bad_open": _remote(400, "The first message of a decode stream cannot be read.", Exit.USAGE),
    "decode.bad_model": _remote(422, "The error model cannot be decoded by matching, round by round."),
    "decode.model_too_large": _remote(413, "The error model is larger than the limit."),
    "decode.bad_frame": _remote(400, "A message of a decode stream is malformed.", Exit.PROTOCOL),
    "decode.out_of_order": _remote(409, "A round came twice, or one before it did not come.", Exit.PROTOCOL),
    "decode.overrun": _remote(429, "More rounds are under way than the credit of the stream.", Exit.TEMPORARY),
    "decode.unexplained": _remote(422, "No errors of the model explain the detection events."),
    "decode.closed": _remote(409, "The decode stream was closed, and takes nothing more.", Exit.USAGE),
    "decode.idle": _remote(408, "Nothing was sent over the decode stream for too long.", Exit.TEMPORARY),
    "decode.too_many_streams": _local(503, "The node has as many decode streams as it takes.", Exit.TEMPORARY),
    "decode.worker_lost": _local(502, "The worker of the decode stream died; open another one.", Exit.TEMPORARY),
    "decode.broken": _local(502, "The connection of a decode stream ended before the stream did.", Exit.TEMPORARY),
    # stored keys
    "qkd.no_link": _remote(404, "No QKD link leads to the node that a key is wanted for.", Exit.USAGE),
    "qkd.too_few_bits": _local(503, "The link holds too little key for the request.", Exit.TEMPORARY),
    "qkd.bad_key_size": _remote(422, "The size or the number of the keys asked for cannot be had.", Exit.USAGE),
    "qkd.unmeetable": _remote(422, "No key at hand is as the request demands."),
    "qkd.key_not_found": _remote(404, "A key is not here, or not any more."),
    "qkd.key_not_yours": _remote(403, "The application was not named as a receiver of the key.", Exit.NO_PERMISSION),
    "qkd.bad_block": _local(422, "A block of finished key does not follow those before it."),
    "qkd.store_full": _local(503, "The link holds as much key as it may; distillation waits.", Exit.TEMPORARY),
    "qkd.store_damaged": _local(500, "Stored key material was altered.", Exit.DATA),
    "qkd.wrong_wrapping_key": _local(500, "Stored keys are encrypted under another wrapping key.", Exit.CONFIG),
    "qkd.out_of_step": _local(502, "The other end does not have the same key bits; these keys were destroyed."),
    # HTTP and access
    "qkd.no_seed": _local(503, "A QKD link has no secret to authenticate its classical channel with.", Exit.TEMPORARY),
    "qkd.no_pads": _local(503, "Key for authentication of a QKD link is used up.", Exit.TEMPORARY),
    "http.bad_request": _remote(400, "The HTTP request cannot be read.", Exit.USAGE),
    "http.not_found": _remote(404, "No such resource.", Exit.USAGE),
    "http.method_not_allowed": _remote(405, "The resource does not know this method.", Exit.USAGE),
    "http.too_large": _remote(413, "The request body is larger than the limit."),
    "http.busy": _local(503, "More requests at once than the daemon serves; try again later.", Exit.TEMPORARY),
    "http.timeout": _local(504, "The daemon could not answer the request before its time limit.", Exit.TEMPORARY),
    "access.denied": _remote(403, "The caller is not allowed to do this.", Exit.NO_PERMISSION),
    "access.bad_origin": _remote(403, "The Host or Origin header names another site.", Exit.NO_PERMISSION),
    "access.no_session": _remote(401, "The page needs a one-time link: run `qedge open`.", Exit.NO_PERMISSION),
    # key delivery
    "keys.refused": _remote(400, "The key manager refused the request.", Exit.UNAVAILABLE),
    "keys.off": _local(503, "Key delivery is switched off on this node.", Exit.CONFIG),
    "keys.no_sae": _remote(404, "No application (SAE) has this name.", Exit.USAGE),
    "keys.sae_taken": _remote(409, "Another application has the id.", Exit.USAGE),
    "keys.sae_configured": _remote(409, "The application stands in the configuration.", Exit.CONFIG),
    "keys.bad_sae": _remote(422, "The application cannot be added as it is described.", Exit.USAGE),
    # attached devices
    "device.off": _local(503, "This node takes no devices.", Exit.CONFIG),
    "device.unknown": _remote(404, "No device has this name.", Exit.USAGE),
    "device.exists": _remote(409, "Another device has the name.", Exit.USAGE),
    "device.bad_name": _remote(422, "The name cannot be one of a device.", Exit.USAGE),
    "device.bad_state": _remote(409, "The device is in a state in which that is not possible.", Exit.USAGE),
    "device.bad_fingerprint": _remote(409, "The key of the device has another fingerprint.", Exit.DATA),
    "device.bad_claim": _remote(403, "The claim code is wrong, or there is nothing to claim.", Exit.NO_PERMISSION),
    "device.bad_import": _remote(422, "A list of devices cannot be read.", Exit.DATA),
    "device.bad_maker": _local(500, "A file with the authority of a maker cannot be read.", Exit.CONFIG),
    "device.bad_message": _remote(400, "What a device said cannot be read.", Exit.PROTOCOL),
    "device.refused": _remote(403, "A device does not prove what it says.", Exit.NO_PERMISSION),
    "device.spent": _remote(410, "The invitation of a device was used.", Exit.NO_PERMISSION),
    "device.busy": _local(503, "More devices want something than the node does at a time.", Exit.TEMPORARY),
    "device.too_many": _local(507, "The node has as many devices as it takes.", Exit.CONFIG),
    "device.no_key": _local(503, "A key of another source is wanted for a device, and there is none."),
    "device.stale_revocations": _local(503, "The list of revoked devices of a node is missing or too old."),
    "devices.bad_certificate": _local(500, "The certificate of the listener for devices cannot be used.", Exit.CONFIG),
    # the authority of HTTPS certificates
    "web.bad_request": _remote(400, "A signing request for an HTTPS certificate is malformed.", Exit.DATA),
    "web.bad_certificate": _local(500, "A certificate, key or revocation list for HTTPS cannot be used.", Exit.CONFIG),
    # threats
    "security.off": _local(503, "The node does not watch devices.", Exit.CONFIG),
    "incident.not_found": _remote(404, "No incident has this id on this node.", Exit.USAGE),
    "incident.resolved": _remote(409, "The incident is resolved.", Exit.USAGE),
    "incident.no_device": _remote(404, "The node has no device of this name.", Exit.USAGE),
    "audit.unavailable": _local(503, "The audit log cannot be written, so privileged acts are refused.", Exit.IO),
    "audit.no_log": _remote(404, "The folder has no audit log.", Exit.NO_INPUT),
    # segments of attached devices and commands to them
    "segment.off": _local(503, "The node has no segments for attached devices.", Exit.CONFIG),
    "segment.not_found": _remote(404, "No segment has this name.", Exit.USAGE),
    "segment.refused": _remote(403, "Policy does not let the caller read the segment.", Exit.NO_PERMISSION),
    "command.refused": _remote(403, "Policy does not let the caller command the device.", Exit.NO_PERMISSION),
    "command.no_device": _remote(404, "No device of this node has the name.", Exit.USAGE),
    "command.unreachable": _local(503, "The device cannot be reached now, or nothing may be sent to it."),
    "command.conflict": _remote(409, "The key of a command was used before with another one.", Exit.USAGE),
    # commands of fleet operators
    "order.off": _local(503, "The node takes no commands of fleet operators.", Exit.CONFIG),
    "order.not_found": _remote(404, "The node knows no such command.", Exit.USAGE),
    "order.misdirected": _remote(400, "A command is for another node, or stands on another's topic.", Exit.DATA),
    "order.key_changed": _remote(409, "A command is for a key that the node had before.", Exit.TEMPORARY),
    "order.conflict": _remote(409, "Another command has this id.", Exit.DATA),
    "order.replayed": _remote(409, "The operator's key used the serial before.", Exit.DATA),
    "order.forgotten": _remote(410, "A command is older than the node remembers commands.", Exit.DATA),
    "order.expired": _remote(410, "A command came after its expiry, or is good for too long.", Exit.TEMPORARY),
    "order.clock": _local(503, "A clock is wrong, or nothing synchronises the node's.", Exit.TEMPORARY),
    "order.role": _remote(403, "The operator's certificate does not name the role that it takes.", Exit.NO_PERMISSION),
    "order.unknown_kind": _remote(404, "The node knows no such kind of command.", Exit.USAGE),
    "order.bad_arguments": _remote(422, "The arguments of a command are wrong.", Exit.DATA),
    "order.second_person": _remote(403, "No second person approved a command in time.", Exit.NO_PERMISSION),
    "order.queue_full": _local(503, "So many commands wait or are remembered that no more fit.", Exit.TEMPORARY),
    "order.flood": _remote(429, "Too many commands with bad signatures came.", Exit.TEMPORARY),
    "order.not_announced": _local(504, "The broker did not take the word that a command begins.", Exit.TEMPORARY),
    "order.timeout": _local(504, "A command took longer than it may.", Exit.TEMPORARY),
    "order.cancelled": _remote(409, "An operator cancelled the command.", Exit.FAILED),
    "order.interrupted": _local(500, "The node stopped while the command ran.", Exit.FAILED),
    "order.ended": _remote(409, "The command has ended.", Exit.USAGE),
    "order.failed": _local(500, "The command was carried out and did not lead to what it should.", Exit.FAILED),
    # shared state
    "state.not_found": _remote(404, "The shared state has no such namespace, or nothing under this key.", Exit.USAGE),
    "state.refused": _remote(422, "The shared state does not take this value there, or not from operators.", Exit.DATA),
    "state.full": _local(507, "The node holds as many entries of the namespace as one writer may."),
    "state.clock": _local(503, "The clock of the node is too far off for it to write shared state."),
    # the Sparkplug edge node
    "sparkplug.bad_value": _remote(422, "A host wrote a value that the metric cannot have.", Exit.DATA),
    "sparkplug.not_offered": _remote(501, "A host wrote a metric that this node has no use for.", Exit.UNAVAILABLE),
    # client
    "client.no_daemon": _local(503, "No daemon answers at the socket; start one with `qedge run`."),
    "client.timeout": _local(504, "The daemon did not answer in time.", Exit.TEMPORARY),
    "client.usage": _remote(400, "The command line is wrong.", Exit.USAGE),
    "client.data": _remote(400, "What a file or standard input holds is not what the command reads."),
    "client.file": _remote(400, "A file named on the command line cannot be read.", Exit.NO_INPUT),
}


class QedgeError(Exception):
    """Every error qedge raises on purpose.

    `code` is a key of `ERROR_CODES`; `message` says what is wrong; `fix` says what to do about it (may be empty);
    `details` are small machine-readable facts (limits, line, column, estimates). Never put a secret in any of them.
    """

    def __init__(self, code: str, message: str, *, fix: str = "", **details: Detail) -> None:
        super().__init__(message)
        if code not in ERROR_CODES:
            raise ValueError(f"error code {code!r} is not in ERROR_CODES")
        self.code = code
        self.message = message
        self.fix = fix
        self.details = details

    @property
    def spec(self) -> ErrorSpec:
        """Return the table row of this error's code."""
        return ERROR_CODES[self.code]

    def __str__(self) -> str:
        return f"{self.message} {self.fix}".strip()

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (self.code, self.message, self.fix, self.details))


def _rebuild(code: str, message: str, fix: str, details: dict[str, Detail]) -> QedgeError:
    return QedgeError(code, message, fix=fix, **details)
