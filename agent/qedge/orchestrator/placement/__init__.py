"""Which node runs a job: facts about nodes, what can be predicted from them, policies, and the exchange of loads."""
