"""Musical instruments made by numpy and scipy alone: how they sound, and what they play."""
