"""What a pipeline does on scenes whose truth is known, measured by judges that no pipeline loads."""
