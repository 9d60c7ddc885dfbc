"""What writes answers, behind `core.ports.AnswerEngine`."""
