"""The parts of `bench/month.py`: a team and its questions, the world it lives in, and what it measures there."""
