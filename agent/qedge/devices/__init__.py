"""The gateway for attached devices: enrolment, sessions, ways in, enforcement, segments."""
